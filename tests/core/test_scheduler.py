"""The scheduler's promises, over random histories and in single scenes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thunderctl.core
from thunderctl.core import events as ev
from thunderctl.core.effects import Admit, Paused, ReclaimEnvironment, Reject, Restored
from thunderctl.core.policies import POLICIES, make_policy
from thunderctl.core.program import TRANSITIONS, IllegalTransition, Phase, Program, Status, Verb
from thunderctl.core.scheduler import Scheduler

FORBIDDEN = {"asyncio", "socket", "threading", "time", "random", "os", "subprocess", "pathlib", "aiohttp", "docker"}


def test_the_core_imports_nothing_that_touches_the_world() -> None:
    for file in Path(thunderctl.core.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] not in FORBIDDEN, f"{file.name} imports {name}"


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("verb", list(Verb))
def test_only_transitions_of_the_table_happen_and_others_change_nothing(
    status: Status, phase: Phase, verb: Verb
) -> None:
    program = Program("p", 0.0, status=status, phase=phase)
    target = TRANSITIONS.get(((status, phase), verb))
    if target is None:
        with pytest.raises(IllegalTransition, match="p: "):
            program.apply(verb)
        assert (program.status, program.phase) == (status, phase)
    else:
        program.apply(verb)
        assert (program.status, program.phase) == target


PROGRAMS = [f"p{n}" for n in range(6)]
WORKERS = ["w0", "w1"]
CALLS = [f"c{n}" for n in range(12)]
tokens = st.integers(0, 700)
an_event = st.one_of(
    st.builds(ev.CallArrived, st.sampled_from(CALLS), st.sampled_from(PROGRAMS), tokens),
    st.builds(ev.CallArrived, st.sampled_from(CALLS), st.sampled_from(PROGRAMS), tokens),
    st.builds(ev.FirstToken, st.sampled_from(CALLS)),
    st.builds(ev.CallProgress, st.sampled_from(CALLS), tokens),
    st.builds(ev.CallFinished, st.sampled_from(CALLS), tokens, st.integers(0, 300), st.integers(0, 90)),
    st.builds(ev.CallFinished, st.sampled_from(CALLS), tokens, st.integers(0, 300), st.integers(0, 90)),
    st.builds(ev.CallFailed, st.sampled_from(CALLS)),
    st.builds(ev.CallBounced, st.sampled_from(CALLS)),
    st.builds(ev.CallCancelled, st.sampled_from(CALLS)),
    st.builds(ev.ToolStarted, st.sampled_from(PROGRAMS)),
    st.builds(ev.ToolFinished, st.sampled_from(PROGRAMS), st.just(1.0)),
    st.builds(ev.EnvironmentWanted, st.sampled_from(PROGRAMS)),
    st.builds(ev.EnvironmentReady, st.sampled_from(PROGRAMS), st.floats(0, 20)),
    st.builds(ev.EnvironmentFailed, st.sampled_from(PROGRAMS)),
    st.builds(ev.ProgramReleased, st.sampled_from(PROGRAMS)),
    st.builds(ev.WorkerUp, st.sampled_from(WORKERS), st.integers(100, 2000), st.sampled_from([0.0, 200.0])),
    st.builds(ev.WorkerDraining, st.sampled_from(WORKERS)),
    st.builds(ev.WorkerLost, st.sampled_from(WORKERS)),
    st.builds(ev.WeightsChanged, st.integers(0, 3)),
    st.just(ev.Timer()),
)
histories = st.lists(st.tuples(an_event, st.floats(-1, 8)), max_size=60)


def drive(policy: str, history: list[tuple[ev.Event, float]], *, check: bool = True) -> list[str]:
    scheduler = Scheduler(make_policy(policy), program_ttl_s=30)
    seen = []
    now = 0.0
    for event, step in [(ev.WorkerUp("w0", 1000, 200.0), 0.0), *history]:
        now += step
        seen += [repr(e) for e in scheduler.handle(event, now)]
        if check:
            scheduler.check()
            deadline = scheduler.next_deadline()
            assert deadline is None or deadline == deadline  # a number, never NaN
    return seen


@pytest.mark.parametrize("policy", POLICIES)
@given(history=histories)
@settings(max_examples=150, deadline=None)
def test_every_invariant_holds_after_every_event_of_any_history(
    policy: str, history: list[tuple[ev.Event, float]]
) -> None:
    drive(policy, history)


@pytest.mark.parametrize("policy", POLICIES)
@given(history=histories)
@settings(max_examples=30, deadline=None)
def test_the_same_events_give_the_same_effects(policy: str, history: list[tuple[ev.Event, float]]) -> None:
    through_the_journal = [(ev.from_record(ev.to_record(event)), step) for event, step in history]
    assert drive(policy, history, check=False) == drive(policy, through_the_journal, check=False)


@pytest.mark.parametrize("policy", POLICIES)
@given(history=histories)
@settings(max_examples=100, deadline=None)
def test_each_call_is_admitted_or_rejected_at_most_once_unless_it_bounced(
    policy: str, history: list[tuple[ev.Event, float]]
) -> None:
    scheduler = Scheduler(make_policy(policy))
    open_calls: dict[str, str] = {}
    now = 0.0
    for event, step in [(ev.WorkerUp("w0", 1000, 200.0), 0.0), *history]:
        now += step
        if isinstance(event, ev.CallBounced | ev.CallFailed | ev.CallCancelled | ev.CallFinished):
            open_calls.pop(event.call, None)
        for effect in scheduler.handle(event, now):
            if isinstance(effect, Admit):
                assert open_calls.get(effect.call) != "admitted"
                open_calls[effect.call] = "admitted"
            elif isinstance(effect, Reject):
                assert open_calls.get(effect.call) != "admitted"


@pytest.mark.parametrize("policy", POLICIES)
@given(history=histories, version=st.integers(4, 6))
@settings(max_examples=100, deadline=None)
def test_once_weights_changed_nothing_that_was_cached_counts_for_anybody(
    policy: str, history: list[tuple[ev.Event, float]], version: int
) -> None:
    scheduler = Scheduler(make_policy(policy))
    now = 0.0
    for event, step in [(ev.WorkerUp("w0", 1000, 200.0), 0.0), *history]:
        now += step
        scheduler.handle(event, now)
    had_calls = {call.id: call.worker for call in scheduler.calls.values() if call.worker is not None}
    known = set(scheduler.programs)
    effects = scheduler.handle(ev.WeightsChanged(version), now)
    scheduler.check()
    silent = {effect.program for effect in effects if isinstance(effect, ReclaimEnvironment)}
    assert set(scheduler.programs) == known - silent
    assert {name: scheduler.calls[name].worker for name in had_calls} == had_calls
    for ledger in scheduler.workers.values():
        assert ledger.shared_twice == 0 and ledger.found_by(None) == 0 and ledger.weights == version
    for program in scheduler.programs.values():
        # Whoever still has a place has a call there, or was given it just now.
        placed = {e.program for e in effects if isinstance(e, Restored)}
        assert program.origin is None or program.in_flight or program.id in placed


def test_weights_of_an_older_version_change_nothing() -> None:
    scheduler = Scheduler(make_policy("thunder"))
    scheduler.handle(ev.WorkerUp("w0", 1000, 200.0), 0.0)
    scheduler.handle(ev.CallArrived("c", "p", 10), 0.0)
    scheduler.handle(ev.CallFinished("c", 10, 0, 5), 1.0)
    assert [type(e) for e in scheduler.handle(ev.WeightsChanged(2), 2.0)] == [Paused]
    scheduler.handle(ev.CallArrived("d", "p", 20), 3.0)
    scheduler.handle(ev.CallFinished("d", 20, 0, 5), 4.0)
    assert scheduler.handle(ev.WeightsChanged(1), 5.0) == []
    assert scheduler.weights == 2 and scheduler.programs["p"].origin == "w0"
    assert [type(e) for e in scheduler.handle(ev.WeightsChanged(2), 6.0)] == [Paused]  # the caches, once more


@pytest.mark.parametrize("policy", POLICIES)
@given(sizes=st.lists(st.integers(1, 1500), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_every_held_call_is_admitted_in_the_end_even_if_it_is_larger_than_the_worker(
    policy: str, sizes: list[int]
) -> None:
    scheduler = Scheduler(make_policy(policy))
    scheduler.handle(ev.WorkerUp("w0", 1000, 200.0), 0.0)
    waiting: set[str] = set()
    admitted: list[str] = []
    now = 0.0
    for n, size in enumerate(sizes):
        waiting.add(f"c{n}")
        admitted += [
            e.call for e in scheduler.handle(ev.CallArrived(f"c{n}", f"p{n}", size), now) if isinstance(e, Admit)
        ]
    while waiting:
        if admitted:
            call = admitted.pop(0)
            waiting.discard(call)
            now += 0.5
            size = sizes[int(call[1:])]
            effects = scheduler.handle(ev.CallFinished(call, size, 0, 5), now)
        else:
            deadline = scheduler.next_deadline()
            assert deadline is not None, f"{waiting} would wait for ever"
            now = max(now, deadline)
            effects = scheduler.handle(ev.Timer(), now)
        admitted += [e.call for e in effects if isinstance(e, Admit)]
        scheduler.check()


def up(policy: str, capacity: int = 1000, workers: int = 1, **options: float) -> Scheduler:
    scheduler = Scheduler(make_policy(policy, options))
    for n in range(workers):
        scheduler.handle(ev.WorkerUp(f"w{n}", capacity, capacity / 20), 0.0)
    return scheduler


def step(scheduler: Scheduler, program: str, prompt: int, at: float, *, answer: int = 10) -> None:
    """One admitted call of ``program``, from arrival to end at the same moment."""
    effects = scheduler.handle(ev.CallArrived(f"{program}-{at}", program, prompt), at)
    assert any(isinstance(e, Admit) for e in effects), effects
    scheduler.handle(ev.CallFinished(f"{program}-{at}", prompt, 0, answer), at)


def test_baseline_admits_everything_at_once_and_keeps_a_program_where_it_was() -> None:
    scheduler = up("baseline", workers=2)
    for n in range(40):
        step(scheduler, f"p{n % 4}", 900, float(n))
    places = {p.id: p.worker for p in scheduler.programs.values()}
    assert sorted(places.values()) == ["w0", "w0", "w1", "w1"]
    step(scheduler, "p0", 900, 50.0)
    assert scheduler.programs["p0"].worker == places["p0"]


def test_round_robin_deals_calls_out_in_turn() -> None:
    scheduler = Scheduler(make_policy("baseline", {"route": "round-robin"}))
    for n in range(2):
        scheduler.handle(ev.WorkerUp(f"w{n}", 1000), 0.0)
    seen = []
    for n in range(4):
        effects = scheduler.handle(ev.CallArrived(f"c{n}", "p", 10), float(n))
        seen += [e.worker for e in effects if isinstance(e, Admit)]
        scheduler.handle(ev.CallFinished(f"c{n}", 10, 0, 1), float(n))
    assert seen == ["w0", "w1", "w0", "w1"]


def test_paper_pauses_acting_before_reasoning_and_the_shortest_first() -> None:
    scheduler = up("paper", decay_base=1.0, lambda_max=1.0, lambda_min=1.0)
    scheduler.handle(ev.CallArrived("r", "reasoner", 100), 0.0)
    for name, size in (("small", 150), ("large", 400), ("middle", 250)):
        step(scheduler, name, size, 1.0)
    effects = scheduler.handle(ev.CallProgress("r", 400), 10.0)  # 100+400 reasoning, 800 acting + answers
    paused = [e.program for e in effects if isinstance(e, Paused)]
    assert paused == ["small", "middle"]
    assert scheduler.workers["w0"].used(10.0) <= 1000


def test_paper_restores_programs_that_wait_with_a_call_before_those_that_act() -> None:
    scheduler = up("paper", decay_base=1.0, lambda_max=1.0, lambda_min=1.0)
    scheduler.handle(ev.CallArrived("r", "reasoner", 950), 0.0)
    assert not any(isinstance(e, Admit) for e in scheduler.handle(ev.CallArrived("b", "big", 600), 0.1))
    assert not any(isinstance(e, Admit) for e in scheduler.handle(ev.CallArrived("s", "small", 300), 0.2))
    scheduler.handle(ev.CallFinished("r", 950, 0, 10), 0.3)
    scheduler.handle(ev.ProgramReleased("reasoner"), 0.4)
    effects = scheduler.handle(ev.Timer(), scheduler.next_deadline() or 0)
    assert {e.program for e in effects if isinstance(e, Restored)} == {"small", "big"}


def test_thunder_restores_on_the_event_that_makes_room_not_on_a_tick() -> None:
    scheduler = up("thunder")
    scheduler.handle(ev.CallArrived("a", "first", 800), 0.0)
    scheduler.handle(ev.CallArrived("b", "second", 600), 0.1)
    scheduler.handle(ev.CallFinished("a", 800, 0, 10), 0.2)
    effects = scheduler.handle(ev.ProgramReleased("first"), 0.3)
    assert Admit("b", "second", "w0", pytest.approx(0.2)) in effects  # type: ignore[arg-type]
    assert ReclaimEnvironment("first") in effects


def full_worker() -> Scheduler:
    """A worker with an answer under way, for 100 of its 1,000 tokens, and a program of 700 tokens that acts."""
    scheduler = up("thunder", growth_steps=0.0)  # 50 tokens/s, 3 of 4 stalled: worth 15 s
    scheduler.handle(ev.CallArrived("b", "busy", 100), 0.0)
    step(scheduler, "acting", 700, 0.0)
    return scheduler


def test_thunder_lets_go_of_a_context_whose_tool_outlasts_what_keeping_it_is_worth() -> None:
    scheduler = full_worker()
    assert not any(isinstance(e, Admit) for e in scheduler.handle(ev.CallArrived("n", "new", 500), 1.0))
    assert scheduler.next_deadline() == 15.0
    effects = scheduler.handle(ev.Timer(), 15.0)
    assert [e.program for e in effects if isinstance(e, Paused)] == ["acting"]
    assert any(isinstance(e, Admit) and e.call == "n" for e in effects)


def test_thunder_keeps_every_context_while_nobody_waits() -> None:
    scheduler = full_worker()
    scheduler.handle(ev.Timer(), 900.0)
    assert scheduler.programs["acting"].worker == "w0"


def test_thunder_learns_by_a_tools_name_how_long_to_keep_a_context() -> None:
    scheduler = full_worker()
    for n in range(20):  # compiling takes 60 s, listing 1 s
        for tool, seconds in (("make", 60.0), ("ls", 1.0)):
            at = 100.0 * n
            step(scheduler, f"{tool}{n}", 10, at)
            scheduler.handle(ev.ToolStarted(f"{tool}{n}", tool), at)
            scheduler.handle(ev.ToolFinished(f"{tool}{n}", seconds), at + seconds)
            scheduler.handle(ev.ProgramReleased(f"{tool}{n}"), at + seconds)
    now = 10_000.0
    for tool in ("make", "ls"):
        step(scheduler, tool, 50, now)
        scheduler.handle(ev.ToolStarted(tool, tool), now)
    scheduler.handle(ev.CallArrived("n", "large", 900), now)
    assert {p.id for p in scheduler.programs.values() if p.worker is None} >= {"make", "large"}
    assert scheduler.programs["ls"].worker == "w0"


def test_over_capacity_thunder_pauses_whoever_has_been_idle_longest() -> None:
    scheduler = up("thunder", growth_steps=0.0)
    scheduler.handle(ev.CallArrived("b", "busy", 100), 0.0)
    for at, name, size in ((1.0, "early", 300), (2.0, "late", 200)):
        step(scheduler, name, size, at)
    effects = scheduler.handle(ev.CallProgress("b", 500), 3.0)
    assert [e.program for e in effects if isinstance(e, Paused)] == ["early"]
    assert scheduler.programs["late"].worker == "w0"


def test_a_prefix_that_every_newcomer_finds_cached_is_counted_once() -> None:
    scheduler = up("thunder", capacity=10_000, growth_steps=0.0)
    for n in range(17):
        effects = scheduler.handle(ev.CallArrived(f"c{n}", f"p{n}", 500), 0.0)
        assert any(isinstance(e, Admit) for e in effects)
        scheduler.handle(ev.CallFinished(f"c{n}", 500, 400 if n else 0, 1), 0.0)
    assert scheduler.workers["w0"].shared == 400
    for n in range(17, 80):  # 80 contexts of 100 tokens of their own and one prefix of 400: less than 10,000
        effects = scheduler.handle(ev.CallArrived(f"c{n}", f"p{n}", 500), 1.0)
        assert any(isinstance(e, Admit) for e in effects), n
    scheduler.check()
    scheduler.handle(ev.CallFinished("c79", 500, 0, 1), 2.0)
    assert scheduler.workers["w0"].shared == 0


def test_newcomers_of_usual_size_are_served_in_the_order_they_came() -> None:
    scheduler = up("thunder", capacity=60_000)
    scheduler.handle(ev.CallArrived("b", "busy", 50_000), 0.0)
    for n, size in enumerate((5000, 2000, 3000)):
        scheduler.handle(ev.CallArrived(f"c{n}", f"p{n}", size), 1.0 + n)
    scheduler.handle(ev.CallFinished("b", 50_000, 0, 1), 5.0)
    effects = scheduler.handle(ev.ProgramReleased("busy"), 5.0)
    assert [e.program for e in effects if isinstance(e, Restored)] == ["p0", "p1", "p2"]


def test_the_members_of_a_group_start_on_one_worker() -> None:
    scheduler = up("thunder", capacity=100_000, workers=2)
    for n in range(12):
        for group in ("g", "h", "i"):
            scheduler.handle(ev.CallArrived(f"{group}{n}", f"{group}{n}", 200, group), float(n))
    places = {(p.group, p.worker) for p in scheduler.programs.values()}
    assert len(places) == 3


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "baseline"])
def test_a_worker_that_comes_back_smaller_or_larger_is_used_as_far_as_it_holds(policy: str) -> None:
    released = {"decay_base": 1.0, "lambda_max": 1.0, "lambda_min": 1.0}
    scheduler = up(policy, **(released if policy == "paper" else {}))
    scheduler.handle(ev.CallArrived("a", "first", 400), 0.0)
    scheduler.handle(ev.CallArrived("b", "second", 700), 0.1)
    for at in (5.0, 10.0):
        scheduler.handle(ev.Timer(), at)
    assert scheduler.programs["second"].worker is None
    scheduler.handle(ev.WorkerUp("w0", 3000, 150.0), 11.0)
    scheduler.handle(ev.Timer(), 20.0)
    assert scheduler.programs["second"].worker == "w0"
    scheduler.handle(ev.CallFinished("a", 400, 0, 10), 21.0)
    scheduler.handle(ev.WorkerUp("w0", 900, 45.0), 22.0)
    scheduler.handle(ev.Timer(), 30.0)
    assert scheduler.programs["first"].worker is None
    assert scheduler.workers["w0"].used(30.0) <= 900
    scheduler.check()


def test_thunder_lets_a_burst_of_young_programs_in_only_as_far_as_they_can_grow() -> None:
    admitted = {}
    for steps in (0.0, 8.0):
        scheduler = up("thunder", capacity=60_000, growth_steps=steps)
        for n in range(24):
            scheduler.handle(ev.CallArrived(f"c{n}", f"p{n}", 1500), 0.0)
        admitted[steps] = sum(p.worker is not None for p in scheduler.programs.values())
    assert admitted == {0.0: 24, 8.0: 9}  # n programs of 1,500 tokens, each with room for 8 steps of 500


def test_thunder_sends_a_program_home_and_elsewhere_only_after_it_waited() -> None:
    scheduler = up("thunder", workers=2)
    step(scheduler, "homesick", 600, 0.0)
    home = scheduler.programs["homesick"].worker
    other = "w1" if home == "w0" else "w0"
    scheduler.handle(ev.WorkerDraining(other), 0.0)
    scheduler.handle(ev.CallArrived("x", "guest", 700), 0.0)  # held: does not fit beside homesick
    scheduler.handle(ev.WorkerUp(other, 100, 50.0), 0.0)
    scheduler.handle(ev.WorkerUp(other, 1000, 50.0), 30.0)
    assert scheduler.programs["guest"].worker == other
    scheduler.handle(ev.CallArrived("y", "homesick", 990), 30.0)
    scheduler.check()
    assert scheduler.programs["homesick"].worker == home


def test_thunder_never_starves_a_large_program_for_small_ones() -> None:
    scheduler = up("thunder", ageing_s=0.1, growth_steps=0.0)
    running = [e.program for e in scheduler.handle(ev.CallArrived("s0", "small0", 400), 0.0) if isinstance(e, Restored)]
    scheduler.handle(ev.CallArrived("big", "big", 850), 0.0)
    for n in range(1, 200):  # small programs never stop coming, and always outnumber what fits
        now = n / 2
        effects = scheduler.handle(ev.CallArrived(f"s{n}", f"small{n}", 400), now)
        if running:
            done = running.pop(0)
            scheduler.handle(ev.CallFinished("s" + done[5:], 400, 0, 1), now)
            effects += scheduler.handle(ev.ProgramReleased(done), now)
        running += [e.program for e in effects if isinstance(e, Restored)]
        if "big" in running:
            break
    assert "big" in running and now < 30


def test_a_cancelled_held_call_leaves_no_ghost() -> None:
    scheduler = up("thunder")
    scheduler.handle(ev.CallArrived("a", "first", 900), 0.0)
    scheduler.handle(ev.CallArrived("b", "second", 600), 0.1)
    scheduler.handle(ev.CallCancelled("b"), 0.2)
    assert scheduler.programs["second"].phase is Phase.ACTING
    scheduler.handle(ev.ProgramReleased("second"), 0.3)
    assert list(scheduler.programs) == ["first"] and list(scheduler.calls) == ["a"]


def test_releasing_a_waiting_program_rejects_its_call_instead_of_sending_it() -> None:
    scheduler = up("thunder")
    scheduler.handle(ev.CallArrived("a", "first", 900), 0.0)
    scheduler.handle(ev.CallArrived("b", "second", 600), 0.1)
    effects = scheduler.handle(ev.ProgramReleased("second"), 0.2)
    assert [e.status for e in effects if isinstance(e, Reject)] == [409]
    assert not any(isinstance(e, Admit) for e in effects)


def test_a_bounced_call_counts_for_its_prompt_alone_when_it_is_admitted_again() -> None:
    scheduler = up("thunder")
    for call, prompt in (("a", 100), ("b", 110)):
        scheduler.handle(ev.CallArrived(call, "p", prompt), 0.0)
    scheduler.handle(ev.CallProgress("a", 50), 1.0)
    assert any(isinstance(e, Admit) and e.call == "a" for e in scheduler.handle(ev.CallBounced("a"), 2.0))
    assert scheduler.workers["w0"].reasoning == 210
    scheduler.check()


def test_a_program_that_is_released_again_while_its_bounced_call_waits_ends_once() -> None:
    scheduler = up("thunder")
    scheduler.handle(ev.CallArrived("a", "p", 600), 0.0)
    scheduler.handle(ev.CallArrived("b", "q", 600), 1.0)
    scheduler.handle(ev.ProgramReleased("p"), 2.0)  # its call is still being answered
    effects = scheduler.handle(ev.CallBounced("a"), 3.0)
    assert [e.call for e in effects if isinstance(e, Admit)] == ["b"]
    effects = scheduler.handle(ev.ProgramReleased("p"), 4.0)
    assert [type(e) for e in effects] == [Reject, ReclaimEnvironment]
    assert list(scheduler.programs) == ["q"]
    scheduler.check()


def test_a_call_that_is_read_after_its_programs_release_leaves_nothing_once_its_client_is_gone() -> None:
    s = up("thunder")
    s.handle(ev.ProgramReleased("p0"), 1.0)
    s.handle(ev.CallArrived("late", "p0", 10), 2.0)
    effects = s.handle(ev.CallCancelled("late"), 2.1)
    assert "p0" not in s.programs and ReclaimEnvironment("p0") in effects
    s.check()


@pytest.mark.parametrize("life", ["it was answered", "it announced an environment", "it was released long ago"])
def test_a_program_that_begins_anew_after_its_release_stays(life: str) -> None:
    s = up("thunder")
    s.handle(ev.ProgramReleased("p0"), 1.0)
    now = 100.0 if life == "it was released long ago" else 2.0
    s.handle(ev.ProgramReleased("another"), now)
    if life == "it announced an environment":
        s.handle(ev.EnvironmentWanted("p0"), now)
    s.handle(ev.CallArrived("c", "p0", 10), now)
    if life == "it was answered":
        s.handle(ev.CallFinished("c", 10, 0, 5), now + 1)
        s.handle(ev.CallArrived("d", "p0", 20), now + 2)
        s.handle(ev.CallCancelled("d"), now + 3)
    else:
        s.handle(ev.CallCancelled("c"), now + 3)
    assert "p0" in s.programs
    s.check()


def test_a_silent_program_is_released_and_its_environment_reclaimed() -> None:
    scheduler = Scheduler(make_policy("thunder"), program_ttl_s=60)
    scheduler.handle(ev.WorkerUp("w0", 1000), 0.0)
    step(scheduler, "quiet", 100, 1.0)
    assert scheduler.next_deadline() == 61.0
    assert ReclaimEnvironment("quiet") in scheduler.handle(ev.Timer(), 61.0)
    assert not scheduler.programs


def test_a_tool_that_runs_keeps_its_program_from_being_taken_for_silent() -> None:
    scheduler = Scheduler(make_policy("thunder"), program_ttl_s=60)
    scheduler.handle(ev.WorkerUp("w0", 1000), 0.0)
    step(scheduler, "busy", 100, 1.0)
    scheduler.handle(ev.ToolStarted("busy"), 2.0)
    scheduler.handle(ev.Timer(), 500.0)
    assert "busy" in scheduler.programs


def test_calls_are_refused_with_a_retry_time_while_no_worker_is_up() -> None:
    scheduler = Scheduler(make_policy("thunder"))
    effects = scheduler.handle(ev.CallArrived("a", "p", 100), 0.0)
    assert [(e.status, e.retry_after_s > 0) for e in effects if isinstance(e, Reject)] == [(503, True)]
    assert not scheduler.programs


def test_programs_of_a_lost_worker_go_on_elsewhere() -> None:
    scheduler = up("thunder", workers=2)
    step(scheduler, "p", 300, 0.0)
    scheduler.handle(ev.WorkerLost(scheduler.programs["p"].worker or ""), 1.0)
    effects = scheduler.handle(ev.CallArrived("c", "p", 310), 2.0)
    assert [e.worker for e in effects if isinstance(e, Admit)] == list(scheduler.workers)


def test_parallel_calls_of_a_program_each_count() -> None:
    scheduler = up("thunder")
    scheduler.handle(ev.CallArrived("a", "p", 300), 0.0)
    scheduler.handle(ev.CallArrived("b", "p", 310), 0.0)
    assert scheduler.workers["w0"].reasoning == 610
    scheduler.handle(ev.CallFinished("a", 300, 0, 5), 1.0)
    scheduler.handle(ev.CallFinished("b", 310, 0, 5), 2.0)
    assert scheduler.workers["w0"].acting == 620  # both contexts will go on
    scheduler.handle(ev.CallArrived("c", "p", 320), 3.0)
    assert scheduler.workers["w0"].reasoning == 620  # one goes on, the other is cached meanwhile
    scheduler.handle(ev.CallFinished("c", 320, 305, 5), 4.0)
    assert scheduler.workers["w0"].acting == 325  # and was of no further use
    scheduler.check()


def test_a_chain_of_calls_beside_another_call_is_one_context() -> None:
    scheduler = up("thunder")
    scheduler.handle(ev.CallArrived("main", "p", 100), 0.0)
    for n in range(5):
        scheduler.handle(ev.CallArrived(f"c{n}", "p", 200 + 10 * n), 1.0 + n)
        scheduler.handle(ev.CallFinished(f"c{n}", 200 + 10 * n, 0, 5), 1.5 + n)
    scheduler.handle(ev.CallFinished("main", 100, 0, 5), 9.0)
    assert scheduler.workers["w0"].acting == 105 + 245


def test_samples_of_one_prompt_are_one_context_with_several_answers() -> None:
    scheduler = up("thunder")
    for n in range(4):
        scheduler.handle(ev.CallArrived(f"c{n}", "p", 200), 0.0)
        scheduler.handle(ev.CallProgress(f"c{n}", 10), 0.0)
    assert scheduler.workers["w0"].reasoning == 240
    for n in range(4):
        scheduler.handle(ev.CallFinished(f"c{n}", 200, 190, 20), 1.0 + n)
    assert scheduler.workers["w0"].acting == 220


def test_a_program_that_rewrites_its_prompt_gives_its_context_up_at_once() -> None:
    scheduler = full_worker()
    for at, prompt in ((1.0, 700), (2.0, 700)):
        step(scheduler, "acting", prompt, at)
    assert scheduler.programs["acting"].rewrites
    effects = scheduler.handle(ev.CallArrived("n", "new", 500), 3.0)
    assert [e.program for e in effects if isinstance(e, Paused)] == ["acting"]


def test_what_a_group_shares_is_counted_once_on_each_worker() -> None:
    scheduler = up("thunder", growth_steps=0.0)
    for n in range(3):
        effects = scheduler.handle(ev.CallArrived(f"c{n}", f"p{n}", 250, "g"), 0.0)
        assert any(isinstance(e, Admit) for e in effects), n
        scheduler.handle(ev.CallFinished(f"c{n}", 250, 240 if n else 0, 0), 0.0)
        scheduler.handle(ev.CallArrived(f"d{n}", f"p{n}", 250, "g"), 0.0)
    ledger = scheduler.workers["w0"]
    assert (ledger.reasoning, ledger.shared_twice) == (750, 480)
    for n in range(3, 20):  # 250 tokens and 10 more for each member: all fit into 900
        effects = scheduler.handle(ev.CallArrived(f"c{n}", f"p{n}", 250, "g"), 1.0)
        assert any(isinstance(e, Admit) for e in effects), n
    scheduler.check()


def test_a_policy_or_option_that_does_not_exist_is_named_with_what_there_is() -> None:
    with pytest.raises(ValueError, match="did you mean 'thunder'"):
        make_policy("thundr")
    with pytest.raises(ValueError, match="did you mean 'growth_steps'"):
        make_policy("thunder", {"growth_step": 3})
    with pytest.raises(ValueError, match="must be like"):
        make_policy("thunder", {"growth_steps": "long"})
