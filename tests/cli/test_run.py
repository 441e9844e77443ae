"""``thunderctl run`` from outside: what it refuses, how it is ended, and that a killed run goes on where it was."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.commandline import CommandLine, until
from tests.daemon import stub_engine
from thunderctl.cli.asked import Asked, make_plan
from thunderctl.cli.main import app
from thunderctl.errors import UsageError
from thunderctl.profile_files import load_profile
from thunderctl.runs.shape import Warmup
from thunderctl.runs.tasks import TaskPlan


@dataclass(frozen=True)
class Stage:
    """A home and a profile whose engine only counts."""

    cli: CommandLine
    profile: str

    def runs(self) -> list[Path]:
        return sorted(self.cli.home.glob("runs/*"))

    def lines(self, name: str) -> list[dict[str, Any]]:
        file = self.runs()[-1] / f"{name}.jsonl"
        if not file.exists():
            return []
        return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def manifest(self) -> dict[str, Any]:
        return dict(json.loads((self.runs()[-1] / "manifest.json").read_text()))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    engine = subprocess.Popen([sys.executable, stub_engine.__file__, "--port", str(port)], env={"STUB_DELAY_S": "0.1"})
    profile = tmp_path / "counting.yaml"
    profile.write_text(
        f"engine: {{kind: external}}\nmodel: {{served_name: small}}\n"
        f"workers: {{urls: ['http://127.0.0.1:{port}'], replay: true}}\nenvironments: {{backend: local}}\n"
    )
    cli = CommandLine(tmp_path / "home")
    try:
        yield Stage(cli, str(profile))
    finally:
        engine.terminate()
        engine.wait(30)
        for process in cli.processes():  # only what a failed test left in its own home
            process.kill()


def test_a_killed_run_is_resumed_without_doing_anything_twice_or_losing_anything(stage: Stage) -> None:
    kill_and_resume(stage, [7])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_run_that_is_killed_again_and_again_comes_to_its_end(stage: Stage, seed: int) -> None:
    dice = random.Random(seed)
    kill_and_resume(stage, [dice.randint(0, 4) for _ in range(4)])


def wait_for_manifest(stage: Stage, running: subprocess.Popen[str]) -> None:
    until(lambda: bool(list(stage.cli.home.glob("runs/*/manifest.json"))) or running.poll() is not None, 60)
    assert running.poll() is None, running.communicate()[1]


def wait_for_steps(stage: Stage, running: subprocess.Popen[str], count: int) -> None:
    until(lambda: len(stage.lines("steps")) >= count or running.poll() is not None, 60)


def kill_and_resume(stage: Stage, kills: list[int]) -> None:
    """Kill the run each time that it has made so many steps in a sitting, then have it go on."""
    cli = stage.cli
    asked = ["run", "swebench", "--agents", "2", "--tasks", "6", "--max-steps", "3", "--no-judge", "-p", stage.profile]
    for steps in kills:
        running = cli.start(*asked)
        wait_for_manifest(stage, running)
        before = len(stage.lines("steps"))
        wait_for_steps(stage, running, before + steps)
        running.kill()
        running.communicate()
        asked = ["run", "--resume", stage.runs()[-1].name]
    summary = cli.json(*asked)
    assert len(stage.runs()) == 1 and summary["agents"]["by_status"] == {"step limit": 6}
    assert sorted(r["index"] for r in stage.lines("rollouts")) == list(range(6))
    made = Counter((s["agent"], s["step"]) for s in stage.lines("steps"))
    assert made == {(f"agent-00{n}", k): 1 for n in range(6) for k in (1, 2, 3)}
    said = stage.manifest()  # a sitting that was killed before it began is none
    assert said["ended"] == "done" and 1 <= len(said["sittings"]) <= len(kills)
    until(cli.nothing_runs, 30)
    done = cli.run(*asked)
    assert done.returncode == 2 and "complete" in done.stderr
    assert cli.nothing_runs(), "it was found out before anything was started"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_end_a_run_stores_what_was_done_and_leaves_nothing(stage: Stage, number: signal.Signals) -> None:
    running = stage.cli.start("run", "swebench", "--agents", "3", "-p", stage.profile)
    until(lambda: bool(stage.runs()) and len(stage.lines("steps")) >= 4, 60)
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130 and "stored" in said
    assert stage.cli.nothing_runs()
    rollouts = stage.lines("rollouts")
    assert [r["status"] for r in rollouts] == ["cut off"] * 3
    assert sum(r["steps"] for r in rollouts) == len(stage.lines("steps"))
    assert stage.manifest()["ended"] == "interrupted" and (stage.runs()[-1] / "summary.json").exists()


def test_told_twice_it_leaves_at_once_and_its_node_goes_down_by_itself(stage: Stage) -> None:
    stage.cli.home.mkdir(exist_ok=True)
    trace = stage.cli.home / "long.jsonl"
    steps = [[5, 0, 5, 0.1], [5, 0, 5, 600]]  # a tool that nobody waits for
    trace.write_text(json.dumps({"id": "a", "first_prompt": 40, "gap": "tool", "steps": steps}) + "\n")
    running = stage.cli.start("run", "trace", "--trace", str(trace), "--agents", "2", "-p", stage.profile)
    until(lambda: bool(stage.runs()) and len(stage.lines("steps")) >= 2, 60)
    running.send_signal(signal.SIGINT)
    assert running.stderr is not None
    while "once more leaves at once" not in running.stderr.readline():
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=10)  # half of what the drain would have waited
    assert running.returncode == 130
    until(stage.cli.nothing_runs, 60)


def asked(workload: str = "swebench", **more: Any) -> Asked:
    nothing: dict[str, Any] = {
        "agents": None, "live": False, "dataset": None, "only": None, "judge": True, "max_steps": None, "trace": None,
        "programs": None, "duration_s": None, "start": None, "seed": None,
    }  # fmt: skip
    return Asked(workload, **{**nothing, **more})


def test_a_load_is_planned_as_the_options_say() -> None:
    plan = make_plan(
        asked(
            agents=8, programs=30, ramp_s=20.0, warmup="10%", seed=4, shuffle=True, part="0:5", max_error_rate=0.5,
            max_duration_s=900.0,
        ),
        load_profile("laptop"),
    )  # fmt: skip
    assert isinstance(plan, TaskPlan)
    assert (plan.agents, plan.due, plan.look_ahead, len(plan.tasks), plan.max_error_share) == (8, 30, 2, 5, 0.5)
    shape = plan.shape
    assert (shape.ramp_s, shape.warmup, shape.seed, shape.max_duration_s) == (20.0, Warmup(share=0.1), 4, 900.0)
    assert plan.about()["selection"] == {"task": [], "filter": None, "slice": "0:5", "shuffle": True}
    opened = make_plan(asked("trace", trace="coding", arrival="poisson:30", part="0:20"), load_profile("laptop"))
    assert opened.shape.arrivals_per_min == 30 and opened.about()["selection"]["slice"] == "0:20"


def test_what_was_asked_can_be_asked_again(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.touch()
    for each in (
        asked(agents=3, programs=9, warmup="5%", shuffle=True, only=["a", "b"]),
        asked(dataset=str(rows), live=True, seed=3),
    ):
        assert Asked.from_dict(json.loads(json.dumps(each.as_dict()))) == each
    again = Asked.from_dict(asked("trace", trace="routing").as_dict())
    assert again.trace is not None and Path(again.trace).is_absolute()


@pytest.mark.parametrize(
    ("wanted", "mention"),
    [
        (asked(programs=3, duration_s=9.0), "--tasks"),
        (asked(ramp_s=3.0, arrival="poisson:3"), "--ramp"),
        (asked(arrival="every:3"), "--arrival"),
        (asked(warmup="x"), "--warmup"),
        (asked(warmup="60", max_duration_s=60.0), "--warmup"),
        (asked(ramp_s=60.0, duration_s=30.0), "--ramp"),
        (asked(part="3"), "--slice"),
        (asked(pattern="nothing*"), "--filter"),
        (asked("trace", trace="coding", shuffle=True), "--shuffle"),
        (asked("trace", trace="coding", pattern="nothing*"), "--filter"),
    ],
)
def test_a_load_that_cannot_be_meant_is_refused_before_anything_starts(wanted: Asked, mention: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_plan(wanted, load_profile("laptop"))
    assert mention in caught.value.message


def test_resume_takes_no_other_plan_and_wants_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "home"))
    for args, mention in (
        (["swebench", "--resume", "x"], "leave WORKLOAD out"),
        (["--resume", "x", "--seed", "0"], "leave --seed out"),
        (["--resume", "x"], "there is no run 'x'"),
        ([], "wants a workload"),
    ):
        refused = CliRunner().invoke(app, ["run", *args]).exception
        assert isinstance(refused, UsageError) and mention in refused.message
