"""What a run's page draws: counts over time, states of programs, shares of KV space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects
import pytest

from tests.report.runs import a_coding_manifest, a_simulated_run
from tests.report.test_stats import a_trace_run
from thunderctl.report import figures, series
from thunderctl.report.stats import Loaded, summarise, window_of
from thunderctl.runs.store import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Enough agents for pauses, on two workers."""
    return a_simulated_run(tmp_path_factory.mktemp("series") / "r", 160, duration_s=200, workers=2)


def test_the_steps_of_all_stretches_are_the_steps_of_the_run(run: RunFolder) -> None:
    found = series.steps_per_min(run)
    counted = sum(rate * found.width / 60 for rate in found.values)
    assert counted == pytest.approx(summarise(run)["throughput"]["steps"])
    assert len(found.at) == series.BUCKETS


def test_populations_add_up_to_the_programs_that_are_there(run: RunFolder) -> None:
    programs = series.programs(run)
    found = series.populations(programs, window_of(run))
    at = found["active"][0]
    for n in range(0, len(at), 50):
        there = sum(p.began <= at[n] < p.ended for p in programs)
        assert sum(values[n] for _, values in found.values()) == pytest.approx(there, abs=2)
    assert max(found["paused"][1]) > 0 and max(found["waiting for a first place"][1]) > 0


def test_pauses_are_those_that_the_scheduler_decided(run: RunFolder) -> None:
    programs = series.programs(run)
    assert len(series.pauses(programs)) == summarise(run)["scheduler"]["pauses"] > 0
    assert all(seconds >= 0 for seconds in series.pauses(programs))


def test_shares_of_kv_space_come_to_what_the_report_says(run: RunFolder) -> None:
    at, shares = series.space_time(run)
    said = summarise(run)["kv_space_time"]
    assert sum(shares["decode"]) / len(at) == pytest.approx(said["decode"], rel=0.1)
    assert all(len(values) == len(at) for values in shares.values())


def test_kv_is_told_of_each_worker_with_few_points(run: RunFolder) -> None:
    found = series.kv(run)
    assert set(found) == {"w0", "w1"}
    assert all(len(kv.reserved[0]) <= series.POINTS for kv in found.values())
    assert max(max(kv.reserved[1]) for kv in found.values()) == pytest.approx(
        max((s["reasoning_tokens"] + s["acting_tokens"]) / s["capacity_tokens"] for s in run.lines("samples")), abs=1e-4
    )


def steps_of(*spans: tuple[float, float, float, float]) -> list[dict[str, Any]]:
    """Steps from: sent, seconds held, seconds of the answer without that, seconds of the tool."""
    return [
        {
            "agent": "agent-000", "at": at, "held_s": held, "latency_s": held + answer, "tool_s": tool,
            "ended": at + held + answer + tool, "prompt_tokens": 10, "cached_tokens": 5, "output_tokens": 1,
        }
        for at, held, answer, tool in spans
    ]  # fmt: skip


def stored(folder: Path, **records: list[dict[str, Any]]) -> RunFolder:
    run = RunFolder(folder)
    run.write("manifest.json", a_coding_manifest(1))
    for name, lines in records.items():
        for line in lines:
            run.append(name, line)
    run.close()
    return run


def test_a_program_waits_reasons_acts_and_is_paused(tmp_path: Path) -> None:
    decisions = [
        {"effect": "Restored", "program": "r/agent-000", "at": 2.0},
        {"effect": "Paused", "program": "r/agent-000", "at": 5.5},
        {"effect": "Restored", "program": "r/agent-000", "at": 9.0},
    ]
    steps = steps_of((0, 2, 3, 1), (6, 3, 1, 0))
    (program,) = series.programs(stored(tmp_path, steps=steps, decisions=decisions))
    assert (program.waiting, program.reasoning) == ([(0, 2), (6, 9)], [(2, 5), (9, 10)])
    assert (program.acting, program.paused, program.placed) == ([(5, 6)], [(5.5, 9.0)], 2.0)
    assert program.status == "running", "it never said how it ended"


def test_a_program_that_never_got_a_place_waited_all_the_time(tmp_path: Path) -> None:
    rollout = {"agent": "agent-000", "status": "cut off", "started": 1.0, "ended": 9.0}
    (program,) = series.programs(stored(tmp_path, rollouts=[rollout]))
    assert program.waiting == [(1.0, 9.0)]
    assert series.populations([program], (0, 10))["waiting for a first place"][1][150] == 1


def test_a_pause_that_nothing_ended_lasts_until_the_program_does(tmp_path: Path) -> None:
    decisions = [{"effect": "Paused", "program": "r/agent-000", "at": 4.0}]
    (program,) = series.programs(stored(tmp_path, steps=steps_of((0, 0, 3, 5)), decisions=decisions))
    assert program.paused == [(4.0, 8.0)]


def test_a_distribution_rises_from_the_smallest_to_all() -> None:
    values, shares = series.shares_within([3, 1, 2, 2])
    assert (values, shares) == ([1, 2, 2, 3], [0.25, 0.5, 0.75, 1])
    assert len(series.shares_within(range(10_000))[0]) <= series.POINTS + 1
    assert series.shares_within([]) == ([], [])


def test_a_timeline_takes_no_more_than_a_page_can_draw() -> None:
    programs = [series.Program(f"p{n}", "", "finished", n, n + 1, n, reasoning=[(0, 1)] * 100) for n in range(1000)]
    assert len(series.drawable(programs)) == series.SEGMENTS // 100


def test_plotly_accepts_every_figure_of_a_run(run: RunFolder, tmp_path: Path) -> None:
    for records in (run, a_trace_run(tmp_path / "t"), stored(tmp_path)):
        loaded = Loaded(records)
        found = figures.of_run(loaded, series.programs(loaded))
        assert found or records.id == tmp_path.name, "only a run without records has no figure"
        for figure in found:
            drawn = plotly.graph_objects.Figure(data=figure.data, layout=figure.layout)
            assert figure.timeline is not None or len(drawn.data) > 0
