"""What a view is told: rates over the last minute, time that is left, who did something last, what went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from thunderctl.cli.live_picture import NodeLens, Picture, RunLens
from thunderctl.runs.driver import Progress


@dataclass
class Rollout:
    agent: str
    instance_id: str = "task"
    status: str = "running"
    error: str | None = None
    steps: int = 0


def health(calls: int = 0, **more: Any) -> dict[str, Any]:
    tally = {
        "finished": calls,
        "prompt_tokens": 1000 * calls,
        "cached_tokens": 900 * calls,
        "output_tokens": 50 * calls,
    }
    return {"tally": tally, "time_scale": 1.0, **more}


class Run:
    """A run whose clock the test turns."""

    def __init__(self, total_steps: int | None = 100, duration_s: float | None = None) -> None:
        self.now = 500.0
        self.progress = Progress(3, total_steps, duration_s, began=self.now)
        self.lens = RunLens(self.progress, now=lambda: self.now)

    def pass_time(self, seconds: float, steps: int = 0) -> Picture:
        self.now += seconds
        self.progress.steps += steps
        return self.lens.look()


def test_rates_are_those_of_the_last_minute() -> None:
    run = Run(total_steps=100_000)
    for _ in range(300):
        run.pass_time(1, steps=10)
    for _ in range(60):
        seen = run.pass_time(1, steps=2)
    assert seen.rates is not None and seen.rates.steps_per_min == pytest.approx(120, rel=0.02)
    assert seen.rates.over_s == pytest.approx(60, abs=1)


def test_rates_of_an_emulated_node_are_in_its_own_seconds() -> None:
    run = Run(total_steps=None)
    for second in range(10):
        run.progress.health = health(second, time_scale=2.0)
        seen = run.pass_time(1, steps=1)
    assert seen.rates is not None
    assert seen.rates.steps_per_min == pytest.approx(120) and seen.rates.over_s == pytest.approx(4.5)
    assert seen.rates.output_tokens_per_s == pytest.approx(100) and seen.rates.hit_rate == pytest.approx(0.9)


def test_a_daemon_that_began_anew_makes_no_negative_rates() -> None:
    lens = NodeLens()
    for second, calls in enumerate((100, 110, 120, 3, 6, 9)):
        lens.told(float(second), health(calls), {}, {})
    seen = lens.look()
    assert seen.rates is not None and seen.rates.steps_per_min == pytest.approx(180)


def test_what_is_left_follows_from_the_work_or_from_the_clock() -> None:
    assert Run(total_steps=100).pass_time(30, steps=25).left_s == pytest.approx(90)
    assert Run(total_steps=None, duration_s=40.0).pass_time(30).left_s == pytest.approx(10)
    unknown = Run(total_steps=None).pass_time(30, steps=5)
    assert unknown.left_s is None and unknown.share is None


def test_a_rollout_is_counted_once_however_often_one_looks() -> None:
    run = Run()
    first, second = Rollout("agent-000"), Rollout("agent-001")
    run.progress.rollouts += [first, second]
    assert run.pass_time(1).rollouts == {"running": 2}
    first.status, second.status, second.error = "submitted", "failed", "it broke"
    run.progress.rollouts.append(Rollout("agent-000"))
    for _ in range(3):
        seen = run.pass_time(1)
    assert seen.rollouts == {"submitted": 1, "failed": 1, "running": 1}
    assert seen.error_count == 1 and seen.errors == ("agent-001: it broke",)


def test_agents_that_did_something_last_come_first_and_of_their_rollouts_the_last_one_counts() -> None:
    run = Run()
    run.progress.rollouts += [Rollout("a", "old", "submitted"), Rollout("b"), Rollout("a", "new")]
    run.progress.latest |= {"b": "ls", "a": "pytest"}
    assert [(row.agent, row.task, row.doing) for row in run.pass_time(1).latest] == [
        ("a", "new", "pytest"),
        ("b", "task", "ls"),
    ]


def test_before_the_daemon_said_anything_nothing_is_made_up() -> None:
    seen = Run().pass_time(1)
    assert seen.programs is None and seen.rates is None and seen.hit_rate is None and seen.disk_bytes is None
    assert list(seen.workers) == []
