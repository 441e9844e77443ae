"""When tool environments are prepared: at once for programs that run, just in time for those that wait."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from thunderctl.core import events as ev
from thunderctl.core.effects import Effect, PrepareEnvironment, ReclaimEnvironment
from thunderctl.core.policies import make_policy
from thunderctl.core.scheduler import Scheduler


def a_scheduler(ahead: int = 8, capacity: int = 10_000, policy: str = "thunder") -> Scheduler:
    scheduler = Scheduler(make_policy(policy), program_ttl_s=60, prepare_ahead=ahead)
    scheduler.handle(ev.WorkerUp("w0", capacity, 1000.0), 0.0)
    return scheduler


def prepared(effects: list[Effect]) -> list[tuple[str, bool]]:
    return [(e.program, e.early) for e in effects if isinstance(e, PrepareEnvironment)]


def test_nothing_is_prepared_for_a_program_whose_first_call_is_still_to_come() -> None:
    scheduler = a_scheduler()
    assert prepared(scheduler.handle(ev.EnvironmentWanted("p"), 0.0)) == []


def test_a_program_that_runs_gets_its_environment_at_once() -> None:
    scheduler = a_scheduler()
    scheduler.handle(ev.EnvironmentWanted("p"), 0.0)
    assert prepared(scheduler.handle(ev.CallArrived("c", "p", 100), 0.0)) == [("p", False)]
    assert prepared(scheduler.handle(ev.EnvironmentWanted("p"), 1.0)) == [("p", False)], "a second one as well"


def test_only_so_many_are_prepared_for_programs_that_wait() -> None:
    scheduler = a_scheduler(ahead=2, capacity=5_000)
    early = []
    for n in range(6):
        scheduler.handle(ev.EnvironmentWanted(f"p{n}"), 0.0)
        early += [p for p, ahead in prepared(scheduler.handle(ev.CallArrived(f"c{n}", f"p{n}", 3000), n)) if ahead]
    assert early == ["p1", "p2"]


def test_the_next_one_is_prepared_when_an_early_one_got_its_place() -> None:
    scheduler = a_scheduler(ahead=1, capacity=5_000)
    for n in range(4):
        scheduler.handle(ev.EnvironmentWanted(f"p{n}"), 0.0)
        scheduler.handle(ev.CallArrived(f"c{n}", f"p{n}", 3000), n)
    assert prepared(scheduler.handle(ev.ProgramReleased("p0"), 5.0)) == []  # its call is still being answered
    assert prepared(scheduler.handle(ev.CallFinished("c0", 3000, 0, 10), 6.0)) == [("p2", True)]


def test_nothing_is_prepared_early_if_the_profile_says_so() -> None:
    scheduler = a_scheduler(ahead=0, capacity=5_000)
    for n in range(3):
        scheduler.handle(ev.EnvironmentWanted(f"p{n}"), 0.0)
        told = prepared(scheduler.handle(ev.CallArrived(f"c{n}", f"p{n}", 3000), n))
        assert told == ([("p0", False)] if n == 0 else [])


def test_a_slow_queue_and_a_quick_preparation_mean_that_few_are_prepared_early() -> None:
    scheduler = a_scheduler(ahead=8)
    for program in ("a", "b", "c"):
        scheduler.preparation.ready(program, 1.0)
    for moment in (0.0, 100.0, 200.0):
        scheduler.preparation.placed(moment)
    assert scheduler.preparation.limit() == 2
    for n in range(200):
        scheduler.preparation.placed(200.0 + n / 10)
    assert scheduler.preparation.limit() == 8, "no more than the profile says"


def test_a_program_that_never_calls_is_given_up_and_its_environment_reclaimed() -> None:
    scheduler = a_scheduler()
    scheduler.handle(ev.EnvironmentWanted("p"), 0.0)
    assert scheduler.next_deadline() == 60.0
    assert scheduler.handle(ev.Timer(), 61.0) == [ReclaimEnvironment("p")]


def test_a_program_that_never_called_can_be_released() -> None:
    scheduler = a_scheduler()
    scheduler.handle(ev.EnvironmentWanted("p"), 0.0)
    assert scheduler.handle(ev.ProgramReleased("p"), 1.0) == [ReclaimEnvironment("p")]


@given(
    ahead=st.integers(0, 4),
    calls=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4000), st.booleans()), max_size=60),
)
@settings(max_examples=100, deadline=None)
def test_each_environment_is_ordered_once_and_early_ones_never_exceed_the_limit(
    ahead: int, calls: list[tuple[int, int, bool]]
) -> None:
    scheduler = a_scheduler(ahead)
    ordered: set[str] = set()
    wanted: set[str] = set()
    for moment, (n, tokens, ends) in enumerate(calls):
        name = f"p{n}"
        if name not in wanted:
            wanted.add(name)
            events: list[ev.Event] = [ev.EnvironmentWanted(name), ev.CallArrived(f"c{n}", name, tokens)]
        elif ends:
            events = [ev.CallFinished(f"c{n}", tokens, 0, 1)]
        else:
            events = [ev.CallArrived(f"c{n}", name, tokens)]
        for event in events:
            for program, _early in prepared(scheduler.handle(event, float(moment))):
                assert program not in ordered
                ordered.add(program)
            scheduler.check()
            waiting = [p for p in ordered if p in scheduler.programs and scheduler.programs[p].status == "paused"]
            fresh = [p for p in waiting if scheduler.programs[p].pauses == 0]
            assert len(fresh) <= max(ahead, 0)
    assert all(p in ordered for p in wanted if p in scheduler.programs and scheduler.programs[p].status == "active")
