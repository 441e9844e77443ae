"""Groups made from single programs: what samples of a task have in common, and what is their own."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderctl.traces.groups import grouped
from thunderctl.traces.load import find_trace, load_trace, make_trace
from thunderctl.traces.trace import Trace, TraceProgram, TraceStep

CODING = load_trace(find_trace("coding"))
ONE_TASK_TWICE = make_trace(
    "t",
    [TraceProgram(f"r{n}", 100 + n, (TraceStep(5, 0, 7 + n, 1.0), TraceStep(3, 0, 0, 0.0)), group="t") for n in (0, 1)],
)


def by_group(trace: Trace) -> dict[str | None, list[TraceProgram]]:
    found: dict[str | None, list[TraceProgram]] = {}
    for program in trace.programs:
        found.setdefault(program.group, []).append(program)
    return found


def test_a_group_is_the_samples_of_a_task_with_one_first_prompt_and_steps_of_their_own() -> None:
    groups = by_group(grouped(CODING, samples=8))
    assert len(groups) == len(CODING.programs)
    for task, samples in groups.items():
        assert [s.id for s in samples] == [f"{task}/{n}" for n in range(8)]
        assert len({s.first_prompt for s in samples}) == 1
        assert len({s.steps for s in samples}) == 8
        recorded = next(p for p in CODING.programs if p.id == task)
        assert samples[0].steps == recorded.steps
        assert all(set(s.steps) <= set(recorded.steps) and s.steps[-1] == recorded.steps[-1] for s in samples)


def test_samples_are_as_long_as_their_task_in_the_mean_and_spread_as_asked() -> None:
    for spread in (0.0, 0.35):
        groups = by_group(grouped(CODING, samples=8, spread=spread))
        shares = [len(s.steps) / len(samples[0].steps) for samples in groups.values() for s in samples[1:]]
        assert statistics.mean(shares) == pytest.approx(1.0, abs=0.05)
        assert statistics.pstdev(shares) == pytest.approx(spread, abs=0.05)


def test_contexts_are_as_many_times_as_long_as_asked_and_the_model_generates_the_same() -> None:
    light, heavy = grouped(CODING), grouped(CODING, longer=3)
    for a, b in zip(light.programs, heavy.programs, strict=True):
        assert b.final_context == pytest.approx(3 * a.final_context, rel=0.05, abs=3 * len(a.steps) + 3000)
        assert [(s.output, s.reasoning, s.tool_s) for s in a.steps] == [
            (s.output, s.reasoning, s.tool_s) for s in b.steps
        ]


@given(st.integers(2_000, 60_000))
def test_no_call_is_longer_than_the_limit_and_every_call_below_it_is_kept(limit: int) -> None:
    whole, cut = grouped(CODING, longer=2), grouped(CODING, longer=2, limit=limit)
    kept = {program.id: program for program in cut.programs}
    for program in whole.programs:
        steps = kept[program.id].steps if program.id in kept else ()
        assert program.steps[: len(steps)] == steps
        lengths = [program.prompt_at(n) + s.reasoning + s.output for n, s in enumerate(program.steps[: len(steps) + 1])]
        assert all(length <= limit for length in lengths[: len(steps)])
        assert len(steps) == len(program.steps) or lengths[-1] > limit


def test_recorded_samples_of_one_task_are_taken_as_they_are() -> None:
    samples = grouped(ONE_TASK_TWICE, samples=3).programs
    assert [s.steps for s in samples[:2]] == [p.steps for p in ONE_TASK_TWICE.programs]
    assert {s.group for s in samples} == {"t"}
    assert {s.first_prompt for s in samples} == {101}


def test_the_same_arguments_give_the_same_groups_and_another_seed_others() -> None:
    assert grouped(CODING, seed=1).digest == grouped(CODING, seed=1).digest != grouped(CODING, seed=2).digest
