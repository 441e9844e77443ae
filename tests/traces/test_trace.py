"""The queue of programs is the same for the same arguments, whoever takes from it."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from thunderctl.traces.load import make_trace
from thunderctl.traces.trace import Assignment, Start, TraceProgram, TraceStep, Work, count_steps

TRACE = make_trace(
    "t", [TraceProgram(f"t{n}", 10, tuple(TraceStep(5, 0, 7, 0.0) for _ in range(n + 1))) for n in range(6)]
)
starts = st.sampled_from(["fresh", "steady"])


def queue(agents: int, programs: int, start: Start, seed: int) -> list[Assignment]:
    return list(iter(Work(TRACE, agents, programs=programs, start=start, seed=seed).take, None))


@given(st.integers(1, 9), st.integers(1, 30), starts, st.integers(0, 99))
def test_the_same_arguments_give_the_same_queue_of_the_length_that_was_asked(
    agents: int, programs: int, start: Start, seed: int
) -> None:
    taken = queue(agents, programs, start, seed)
    assert taken == queue(agents, programs, start, seed)
    assert len(taken) == programs == len({a.id for a in taken})
    assert count_steps(taken) == sum(len(a.program.steps) - a.first_step for a in taken)
    # Only what each agent takes first may begin in its midst.
    assert all(a.first_step == 0 for a in taken[agents if start == "steady" else 0 :])
    assert all(0 <= a.first_step < len(a.program.steps) for a in taken)


@given(st.integers(0, 99))
def test_every_program_is_taken_once_before_any_is_taken_again(seed: int) -> None:
    taken = [a.program.id for a in queue(3, 12, "fresh", seed)]
    assert set(Counter(taken[:6]).values()) == {1} == set(Counter(taken[6:]).values())


def test_a_longer_queue_begins_like_a_shorter_one() -> None:
    assert queue(3, 20, "steady", 1)[:5] == queue(3, 5, "steady", 1)


def test_prompts_grow_by_answers_and_observations() -> None:
    program = TRACE.programs[2]
    assert [program.prompt_at(n) for n in range(3)] == [10, 22, 34]
    assert program.final_context == 46


GROUPS = make_trace(
    "g",
    [
        TraceProgram(f"{name}/{n}", 10, tuple(TraceStep(5, 0, 7, 0.0) for _ in range(4 * n + 4)), group=name)
        for name in "abcde"
        for n in range(3)
    ],
)


@given(st.integers(1, 20), starts, st.integers(0, 99))
def test_the_samples_of_a_group_are_taken_one_after_the_other(agents: int, start: Start, seed: int) -> None:
    taken = list(iter(Work(GROUPS, agents, programs=45, start=start, seed=seed).take, None))
    for first in range(0, 45, 3):
        samples = taken[first : first + 3]
        name = samples[0].program.id.partition("/")[0]
        assert [s.program.id for s in samples] == [f"{name}/{n}" for n in range(3)]
        assert len({s.program.group for s in samples}) == 1
    groups = [a.program.group for a in taken[::3]]
    assert len(set(groups)) == 15, "taken once more, they are a group of their own"


@given(st.integers(1, 20), st.integers(0, 99))
def test_in_a_steady_start_the_samples_of_a_group_have_done_the_same_share_of_their_steps(
    agents: int, seed: int
) -> None:
    taken = list(iter(Work(GROUPS, agents, programs=45, start="steady", seed=seed).take, None))
    for first in range(0, 45, 3):
        shares = [a.first_step / len(a.program.steps) for a in taken[first : first + 3]]
        assert max(shares) - min(shares) < 1 / 4  # a step of the shortest
        assert first < agents or shares == [0, 0, 0]
