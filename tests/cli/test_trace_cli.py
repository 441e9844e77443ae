"""``thunderctl trace``: what is printed and written, and that a failed import leaves no file.

And what ``run trace`` and ``compare trace`` refuse before anything starts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from thunderctl.cli import main
from thunderctl.cli.run import Asked, Start, make_plan
from thunderctl.cli.trace import app
from thunderctl.errors import PreflightError, ThunderError, UsageError, WorkloadError
from thunderctl.profile_files import load_profile
from thunderctl.runs.tasks import TaskPlan
from thunderctl.runs.trace import TracePlan
from thunderctl.traces.load import load_trace

runner = CliRunner()
TABLE = "program,step,first_prompt,output,reasoning,observation,tool_s\na,1,100,5,0,7,1.5\na,2,,6,1,0,0\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "home"))
    return tmp_path


def test_synth_writes_the_same_file_for_the_same_seed(tmp_path: Path) -> None:
    said = []
    for name in ("a.jsonl", "b.jsonl"):
        result = runner.invoke(
            app,
            ["synth", "--kind", "routing", "--programs", "5", "--seed", "3", "--out", str(tmp_path / name), "--json"],
        )
        assert result.exit_code == 0, result.output
        said.append(json.loads(result.stdout))
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert said[0]["digest"] == said[1]["digest"] == load_trace(tmp_path / "a.jsonl").digest
    assert (said[0]["programs"], said[0]["file"]) == (5, str(tmp_path / "a.jsonl"))


def test_import_writes_a_trace_that_stats_can_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    out = tmp_path / "mine.jsonl.gz"
    result = runner.invoke(app, ["import", str(tmp_path / "t.csv"), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["steps"] == 2
    figures = json.loads(runner.invoke(app, ["stats", str(out), "--json"]).stdout)
    assert (figures["trace"], figures["programs"], figures["recorded_model"]) == ("mine", 1, None)
    assert figures["figures"]["tool_s"]["mean"] == 1.5


@pytest.mark.parametrize("before", [None, "an older trace"])
def test_a_failed_import_leaves_the_file_as_it_was(tmp_path: Path, before: str | None) -> None:
    (tmp_path / "good.csv").write_text(TABLE)
    (tmp_path / "bad.csv").write_text(TABLE + "b,1,100,-5,0,0,0\n")
    out = tmp_path / "mine.jsonl"
    if before is not None:
        out.write_text(before)
    result = runner.invoke(app, ["import", str(tmp_path / "good.csv"), str(tmp_path / "bad.csv"), "-o", str(out)])
    assert isinstance(result.exception, WorkloadError)
    assert "line 4: output" in result.exception.message
    assert (out.read_text() if out.exists() else None) == before
    assert sorted(p.name for p in tmp_path.iterdir() if "mine" in p.name) == ([] if before is None else ["mine.jsonl"])


def test_a_name_that_could_not_be_read_again_is_refused_first(tmp_path: Path) -> None:
    for command in (["synth"], ["import", "nowhere.csv"]):
        result = runner.invoke(app, [*command, "--out", str(tmp_path / "mine.json")])
        assert isinstance(result.exception, UsageError)
        assert ".jsonl" in result.exception.message


def test_stats_say_what_an_agent_holds_and_what_was_taken_out(tmp_path: Path) -> None:
    steps = [[n, 0, 1, 2 + 0.01 * n] for n in range(1, 101)]
    (tmp_path / "gaps.jsonl").write_text(json.dumps({"id": "a", "first_prompt": 9, "steps": steps}) + "\n")
    text = runner.invoke(app, ["stats", str(tmp_path / "gaps.jsonl")]).stdout
    assert "held in mid-life" in text and "working set" in text
    assert "2.00 s a call and 10.00 ms a token" in text


def test_list_shows_the_bundled_traces() -> None:
    assert [each["trace"] for each in json.loads(runner.invoke(app, ["list", "--json"]).stdout)] == [
        "coding",
        "routing",
        "science",
    ]
    text = runner.invoke(app, ["list"]).stdout
    assert "coding" in text and "200" in text


def test_an_unknown_kind_or_form_names_the_known_ones() -> None:
    assert "coding" in runner.invoke(app, ["synth", "--kind", "codng", "--out", "x.jsonl"]).output
    assert "mini-swe-agent" in runner.invoke(app, ["import", "x", "--from", "mini", "--out", "x.jsonl"]).output


@pytest.mark.parametrize("command", ["import", "stats", "synth", "list"])
def test_help_has_examples_on_lines_of_their_own(command: str) -> None:
    result = runner.invoke(main.app, ["trace", command, "--help"])
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert any(line.startswith(f"thunderctl trace {command}") for line in lines)
    assert "--json" in result.stdout


# ------------------------------------------------------------------ run trace


def asked(workload: str = "trace", **more: Any) -> Asked:
    nothing: dict[str, Any] = {
        "agents": None, "live": False, "dataset": None, "only": None, "judge": True, "max_steps": None, "trace": None,
        "programs": None, "duration_s": None, "start": None, "seed": None,
    }  # fmt: skip
    return Asked(workload, **{**nothing, **more})


def test_a_trace_is_planned_as_the_options_say() -> None:
    plan = make_plan(
        asked(trace="routing", agents=5, start=Start.steady, seed=3, duration_s=60.0), load_profile("laptop")
    )
    assert isinstance(plan, TracePlan)
    assert (plan.trace.name, plan.agents, plan.start, plan.seed) == ("routing", 5, "steady", 3)
    assert (plan.duration_s, plan.asked_programs, plan.total_steps) == (60.0, None, None)
    until_done = make_plan(asked(trace="routing"), load_profile("laptop"))
    assert isinstance(until_done, TracePlan)
    assert until_done.asked_programs == until_done.agents == load_profile("laptop").profile.runs.agents
    assert (until_done.start, until_done.seed) == ("fresh", 0)


def test_tasks_are_planned_as_before() -> None:
    plan = make_plan(asked("swebench", agents=3, max_steps=5), load_profile("laptop"))
    assert isinstance(plan, TaskPlan)
    assert (plan.kind, plan.agents, plan.workload.limits.steps, plan.total_steps) == ("replay", 3, 5, 15)
    assert make_plan(asked("swebench", live=True), load_profile("laptop")).kind == "live"


@pytest.mark.parametrize(
    ("wanted", "profile", "error", "mention"),
    [
        (asked(), "laptop", UsageError, "--trace"),
        (asked(trace="codng"), "laptop", WorkloadError, "codng"),
        (asked(trace="routing", programs=3, duration_s=9.0), "laptop", UsageError, "--duration"),
        (asked(trace="routing", live=True), "laptop", UsageError, "--live"),
        (asked(trace="routing", only=["x"]), "laptop", UsageError, "--task"),
        (asked("swebench", trace="routing"), "laptop", UsageError, "--trace"),
        (asked("swebench", start=Start.steady), "laptop", UsageError, "--start"),
        (asked(trace="routing", shuffle=True), "laptop", UsageError, "--shuffle"),
        (asked(trace="routing"), "gpu-1", PreflightError, "replay"),
        (asked("swebench"), "gpu-1", PreflightError, "replay"),
        (asked(trace="science"), "short", WorkloadError, "model.max_model_len"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(
    wanted: Asked, profile: str, error: type[ThunderError], mention: str
) -> None:
    overrides = ["model.max_model_len=8192"] if profile == "short" else []
    resolved = load_profile("laptop" if profile == "short" else profile, overrides)
    with pytest.raises(error) as caught:
        make_plan(wanted, resolved)
    assert mention in caught.value.message


def test_a_trace_with_a_few_programs_that_are_too_long_is_run_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {"id": "long", "first_prompt": 40_000, "gap": "tool", "steps": [[1, 0, 0, 0]]}
    lines = [long, *({**long, "id": f"p{n}", "first_prompt": 100} for n in range(9))]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    make_plan(asked(trace=str(tmp_path / "t.jsonl")), load_profile("laptop"))
    assert "1 of 10 programs are longer" in " ".join(capsys.readouterr().err.split())
