"""A trace through a real vLLM and the daemon: the engine emits what the trace says, and the report bears it out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commandline import LOCAL, CommandLine
from tests.report.recompute import differences
from thunderctl.traces.load import load_trace

pytestmark = pytest.mark.engine


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Four programs of one group and four of none, with reasoning, a common prefix and short tools."""
    steps = [[40, 0, 200, 0.2], [30, 25, 150, 0.1], [60, 0, 90, 0], [1, 0, 0, 0]]
    program = {"first_prompt": 1000, "gap": "tool", "steps": steps, "shared_prefix": 320}
    lines = [{**program, "id": f"g{n}", "group": "g"} for n in range(4)]
    lines += [{**program, "id": f"p{n}", "label": "alone"} for n in range(4)]
    path = tmp_path / "small.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_trace_on_the_cpu_engine_runs_to_its_end(cli: CommandLine, trace: Path) -> None:
    summary = cli.json(
        "run", "trace", "--trace", str(trace), "--agents", "3", "--programs", "8", "-p", "laptop", *LOCAL
    )
    assert summary["kind"] == "trace" and summary["complete"] is True
    assert summary["agents"]["by_status"] == {"finished": 8}
    assert summary["throughput"]["steps"] == 32
    # Every program once: reasoning is generated too.
    assert summary["tokens"]["output"] == 8 * (40 + 55 + 60 + 1)
    program = load_trace(trace).programs[0]
    assert summary["tokens"]["prompt"] == 8 * sum(program.prompt_at(n) for n in range(4))
    folder = Path(summary["folder"])
    assert differences(folder, summary) == []
    assert abs(summary["hit_rate"] - summary["engine_hit_rate"]) < 0.02
    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    # Nothing is evicted, so a second call hits all of the first but its last, unfinished block of 32 tokens.
    for step in steps:
        if step["step"] == 2:
            assert step["cached_tokens"] >= 1000 - 32
    assert cli.nothing_runs() and not list(folder.glob("preds.json"))
    again = cli.json("trace", "import", summary["run"], "--out", str(folder / "again.jsonl"))
    assert again["programs"] == 8 and again["steps"] == 32


def test_a_run_by_the_clock_on_an_emulated_node_is_cut_off(cli: CommandLine) -> None:
    summary = cli.json(
        "run", "trace", "--trace", "coding", "--agents", "8", "--duration", "20", "--start", "steady",
        "-p", "emulated-h100x8-glm46", *LOCAL,
    )  # fmt: skip
    assert summary["complete"] is True and summary["window_s"] == pytest.approx(20)
    assert summary["agents"]["by_status"]["cut off"] == 8 and "failed" not in summary["agents"]["by_status"]
    assert summary["throughput"]["steps"] > 8 and summary["hit_rate"] > 0.5
    assert summary["host_lag"] < 0.05 and summary["engine"] == "emulated"
    assert differences(Path(summary["folder"]), summary) == []
    assert cli.nothing_runs()


def test_arms_of_a_trace_are_compared_over_the_same_queue(cli: CommandLine, trace: Path) -> None:
    result = cli.json(
        "compare", "trace", "--trace", str(trace), "--arms", "baseline,thunder", "--agents", "4", "-p", "laptop", *LOCAL
    )
    (load,) = result["loads"]
    assert result["kind"] == "trace" and set(load["runs"]) == {"baseline", "thunder"}
    figures = {row["figure"]: row["arms"] for row in load["figures"]}
    assert figures["steps/min"]["thunder"]["mean"] > 0
