"""What each policy promises beyond the scheduler's own invariants, and histories of the size that nodes see."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderctl.core import events as ev
from thunderctl.core.effects import Admit, Effect, Paused, Restored
from thunderctl.core.ledger import LazyHeap, Line
from thunderctl.core.policies import POLICIES, make_policy
from thunderctl.core.policies.base import Policy
from thunderctl.core.policies.oracle import Ahead, Oracle
from thunderctl.core.policies.thunder import Thunder
from thunderctl.core.program import Phase, Program
from thunderctl.core.scheduler import Scheduler
from thunderctl.core.tools import ENOUGH, Durations, ToolTimes

# ---------------------------------------------------------------------- long histories


class Node:
    """A body that makes everything happen that may: late and double events, cancellations, workers that go."""

    WORKERS = ("w0", "w1", "w2")

    def __init__(self, policy: Policy, seed: int) -> None:
        self.dice = random.Random(seed)
        self.scheduler = Scheduler(policy, program_ttl_s=self.dice.choice([5.0, 60.0, 1800.0]))
        self.now = 0.0
        self.calls = 0
        self.in_flight: list[str] = []
        self.past: list[ev.Event] = []
        self.handle(ev.WorkerUp("w0", 2000, 100.0))

    def handle(self, event: ev.Event) -> list[Effect]:
        effects = self.scheduler.handle(event, self.now)
        self.in_flight += [e.call for e in effects if isinstance(e, Admit)]
        self.past.append(event)
        self.scheduler.check()
        deadline = self.scheduler.next_deadline()
        assert deadline is None or not math.isnan(deadline)
        return effects

    def next_event(self) -> ev.Event:
        dice, kind = self.dice, self.dice.random()
        program, worker = f"p{dice.randrange(24)}", dice.choice(self.WORKERS)
        call = dice.choice(self.in_flight) if self.in_flight else "c0"
        if kind < 0.36:
            self.calls += 1
            group = dice.choice([None, None, "g", "h"])
            return ev.CallArrived(f"c{self.calls}", program, dice.randint(0, 600), group)
        if kind < 0.66:
            if call in self.in_flight:
                self.in_flight.remove(call)
            prompt = dice.randint(1, 600)
            return ev.CallFinished(call, prompt, dice.randint(0, prompt), dice.randint(0, 60))
        if kind < 0.90:
            return dice.choice(
                [
                    ev.FirstToken(call),
                    ev.CallProgress(call, dice.randint(0, 300)),
                    ev.CallCancelled(f"c{dice.randint(0, self.calls)}"),
                    ev.CallFailed(call),
                    ev.CallBounced(call),
                    ev.ToolStarted(program, dice.choice(["", "make", "ls"])),
                    ev.ToolFinished(program, dice.uniform(0, 9)),
                    ev.EnvironmentWanted(program),
                    ev.EnvironmentReady(program, dice.uniform(0, 9)),
                    ev.EnvironmentFailed(program),
                    ev.ProgramReleased(program),
                ]
            )
        if kind < 0.94:
            return ev.WorkerUp(worker, dice.randint(200, 4000), dice.choice([0.0, 100.0]))
        if kind < 0.96:
            return dice.choice([ev.WorkerLost(worker), ev.WorkerDraining(worker)])
        if kind < 0.98:
            return dice.choice(self.past)  # once more, or late
        return ev.Timer()


class AnyFuture(dict[str, list[Ahead]]):
    """The same future for every program."""

    def __missing__(self, program: str) -> list[Ahead]:
        return [Ahead(1.0 + n % 7, 40) for n in range(2000)]


EVERY_POLICY = [*POLICIES, "oracle"]


def policy_of(name: str) -> Policy:
    return Oracle(future=AnyFuture()) if name == "oracle" else make_policy(name)


def live_through(policy: str, seed: int, events: int) -> None:
    node = Node(policy_of(policy), seed)
    for _ in range(events):
        node.now += node.dice.expovariate(2.0)
        node.handle(node.next_event())


@pytest.mark.parametrize("policy", EVERY_POLICY)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=6, deadline=None)
def test_every_invariant_holds_through_long_histories(policy: str, seed: int) -> None:
    live_through(policy, seed, 400)


@pytest.mark.slow
@pytest.mark.parametrize("policy", EVERY_POLICY)
@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_every_invariant_holds_through_a_thousand_histories_of_a_thousand_events(policy: str, first: int) -> None:
    for seed in range(first, first + 100):
        live_through(policy, seed, 1000)


@pytest.mark.parametrize("policy", EVERY_POLICY)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_when_all_workers_stay_up_every_call_is_admitted_within_the_cap(policy: str, seed: int) -> None:
    dice = random.Random(seed)
    scheduler = Scheduler(policy_of(policy), program_ttl_s=1e6)
    cap = getattr(scheduler.policy, "max_pause_s", 1800.0)
    for worker in ("w0", "w1"):
        scheduler.handle(ev.WorkerUp(worker, 1000, 50.0), 0.0)
    waiting: dict[str, float] = {}
    running: list[tuple[float, str, str, int]] = []
    now = 0.0

    def take(effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Admit):
                assert now - waiting.pop(effect.call) <= cap + 5.0
                running.append((now + dice.uniform(0.5, 20), effect.call, effect.program, dice.randint(50, 900)))

    for n in range(300):
        now += dice.expovariate(0.5)
        while running and min(running)[0] <= now:
            done = min(running)
            running.remove(done)
            take(scheduler.handle(ev.CallFinished(done[1], done[3], 0, 5), now))
            if dice.random() < 0.3:
                take(scheduler.handle(ev.ProgramReleased(done[2]), now))
        deadline = scheduler.next_deadline()
        if deadline is not None and deadline <= now:
            take(scheduler.handle(ev.Timer(), now))
        idle = [f"p{i}" for i in range(12)]
        busy = {program.id for program in scheduler.programs.values() if program.phase is Phase.REASONING}
        free = [name for name in idle if name not in busy]
        if free and n < 250:
            waiting[f"c{n}"] = now
            group = dice.choice([None, "g", "h"])
            take(scheduler.handle(ev.CallArrived(f"c{n}", dice.choice(free), dice.randint(50, 900), group), now))
        scheduler.check()
    assert len(waiting) < 12


# ---------------------------------------------------------------------- paper

sizes = st.lists(st.integers(20, 400), min_size=2, max_size=20)


def paper(capacity: int = 1000, workers: int = 1, **options: float) -> Scheduler:
    scheduler = Scheduler(make_policy("paper", {"decay_base": 1.0, "lambda_max": 1.0, "lambda_min": 1.0, **options}))
    for n in range(workers):
        scheduler.handle(ev.WorkerUp(f"w{n}", capacity, 100.0), 0.0)
    return scheduler


def crowd(scheduler: Scheduler, acting: list[int], reasoning: list[int]) -> None:
    """Programs a0… that act and r0… that reason, let in while small, grown to these sizes since."""
    for letter, found in (("a", acting), ("r", reasoning)):
        for n in range(len(found)):
            effects = scheduler.handle(ev.CallArrived(f"{letter}{n}", f"{letter}{n}", 1), 0.1)
            assert any(isinstance(e, Admit) for e in effects)
    for n, tokens in enumerate(acting):
        scheduler.handle(ev.CallFinished(f"a{n}", tokens, 0, 0), 1.0)
    for n, tokens in enumerate(reasoning):
        scheduler.handle(ev.CallProgress(f"r{n}", tokens - 1), 1.0)


def check_at(scheduler: Scheduler, at: float) -> list[Effect]:
    return scheduler.handle(ev.Timer(), at)


@given(acting=sizes, reasoning=sizes)
@settings(max_examples=150, deadline=None)
def test_paper_pauses_nobody_who_reasons_while_anybody_acts(acting: list[int], reasoning: list[int]) -> None:
    scheduler = paper()
    crowd(scheduler, acting, reasoning)
    check_at(scheduler, 10.0)
    marked = [p.id for p in scheduler.programs.values() if p.pause_when_rested]
    still_acting = [p.id for p in scheduler.programs.values() if p.phase is Phase.ACTING and p.worker]
    assert not marked or not still_acting


@given(acting=sizes, reasoning=sizes)
@settings(max_examples=150, deadline=None)
def test_paper_pauses_the_shortest_of_those_who_act(acting: list[int], reasoning: list[int]) -> None:
    scheduler = paper()
    crowd(scheduler, acting, reasoning)
    effects = check_at(scheduler, 10.0)
    paused = [e.tokens for e in effects if isinstance(e, Paused)]
    assert paused == sorted(acting)[: len(paused)]


@given(acting=sizes, reasoning=sizes, lambdas=st.sampled_from([(1.0, 1.0), (0.9, 0.8)]))
@settings(max_examples=150, deadline=None)
def test_after_each_check_of_paper_what_stays_is_within_the_capacity(
    acting: list[int], reasoning: list[int], lambdas: tuple[float, float]
) -> None:
    scheduler = paper(lambda_max=lambdas[0], lambda_min=lambdas[1])
    crowd(scheduler, acting, reasoning)
    check_at(scheduler, 10.0)
    staying = [p for p in scheduler.programs.values() if p.worker and not p.pause_when_rested]
    assert sum(p.tokens for p in staying) <= lambdas[0] * 1000 or len(staying) == 1


@given(waiting=st.lists(st.integers(50, 900), min_size=1, max_size=15), workers=st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_after_a_check_of_paper_no_waiting_program_fits_so_unused_space_lasts_one_interval(
    waiting: list[int], workers: int
) -> None:
    """Section 4.2: what stays unused is less than c_min on each worker, for Δt at most: the next check fills it."""
    scheduler = paper(workers=workers)
    for n in range(workers):
        scheduler.handle(ev.CallArrived(f"full{n}", f"full{n}", 1000), 0.1)
    for n, tokens in enumerate(waiting):
        scheduler.handle(ev.CallArrived(f"c{n}", f"p{n}", tokens), 1.0)
    for n in range(workers):
        scheduler.handle(ev.CallFinished(f"full{n}", 1000, 0, 0), 2.0)
        scheduler.handle(ev.ProgramReleased(f"full{n}"), 2.0)
    deadline = scheduler.next_deadline()
    assert deadline is not None and deadline <= 2.0 + 5.0
    for n in range(1 if workers == 1 else len(waiting)):  # packing on several workers may take a few checks
        check_at(scheduler, deadline + 5.0 * n)
    held = [p.tokens for p in scheduler.programs.values() if p.worker is None]
    room = [w.capacity - w.used(scheduler.now) for w in scheduler.workers.values()]
    assert not held or max(room) < min(held)


def test_paper_packs_the_largest_first_where_it_fits_best() -> None:
    scheduler = paper(workers=2)
    scheduler.handle(ev.CallArrived("x", "x", 400), 0.1)  # leaves 600 on one worker
    scheduler.handle(ev.CallArrived("y", "y", 900), 0.2)  # and 100 on the other
    for name, tokens in (("small", 90), ("large", 580)):
        scheduler.handle(ev.CallArrived(f"blocked-{name}", "blocked", 5000), 0.3)
        scheduler.handle(ev.CallArrived(name, name, tokens), 0.4)
    effects = check_at(scheduler, 6.0)
    places = {e.program: e.worker for e in effects if isinstance(e, Restored)}
    assert places["large"] == scheduler.programs["x"].worker
    assert places["small"] == scheduler.programs["y"].worker


def test_paper_counts_the_buffer_of_each_active_program() -> None:
    admitted = {}
    for buffer in (0, 100):
        scheduler = paper(buffer_tokens=buffer)
        for n in range(10):
            scheduler.handle(ev.CallArrived(f"c{n}", f"p{n}", 100), 0.1)
        admitted[buffer] = sum(p.worker is not None for p in scheduler.programs.values())
    assert admitted == {0: 10, 100: 5}


def test_paper_restores_whoever_waited_for_the_longest_time_allowed() -> None:
    scheduler = paper(max_pause_s=60.0)
    scheduler.handle(ev.CallArrived("a", "first", 900), 0.0)
    scheduler.handle(ev.CallArrived("b", "second", 600), 1.0)
    effects = [e for at in range(5, 70, 5) for e in check_at(scheduler, float(at))]
    assert [(e.program, e.forced) for e in effects if isinstance(e, Restored)] == [("second", True)]


# ---------------------------------------------------------------------- thunder: groups


def thunder(capacity: int = 1000, **options: float) -> Scheduler:
    scheduler = Scheduler(make_policy("thunder", {"growth_steps": 0.0, "newcomers": 0.0, "fill": 1.0, **options}))
    scheduler.handle(ev.WorkerUp("w0", capacity, 50.0), 0.0)
    return scheduler


def answer(scheduler: Scheduler, program: str, tokens: int, now: float, group: str | None = None) -> list[Effect]:
    """A call that is admitted and answered at once; the program acts afterwards."""
    effects = scheduler.handle(ev.CallArrived(f"{program}@{now}", program, tokens, group), now)
    assert any(isinstance(e, Admit) for e in effects)
    return effects + scheduler.handle(ev.CallFinished(f"{program}@{now}", tokens, 0, 0), now)


def first_of_two_that_wait(**options: float) -> str:
    """Who is let in when there is room for one: ``last``, whose group has done without it, or ``small``."""
    scheduler = thunder(**options)
    for n in range(3):
        answer(scheduler, f"done{n}", 30, 0.0, "g")
    scheduler.handle(ev.CallArrived("b", "busy", 850), 1.0)
    for name, tokens, group in (("small", 500, None), ("last", 700, "g")):
        scheduler.handle(ev.CallArrived(name, name, tokens, group), 2.0)
    for n in range(3):
        scheduler.handle(ev.ProgramReleased(f"done{n}"), 3.0)
    effects = scheduler.handle(ev.CallFinished("b", 850, 0, 0), 4.0)
    effects += scheduler.handle(ev.ProgramReleased("busy"), 5.0)
    return next(e.program for e in effects if isinstance(e, Restored))


def test_whoever_a_group_waits_for_is_let_in_before_smaller_programs() -> None:
    assert first_of_two_that_wait() == "last"
    assert first_of_two_that_wait(stragglers=0.0) == "small"


@pytest.mark.parametrize(("stragglers", "paused"), [(0.3, ["other", "last"]), (0.0, ["last", "other"])])
def test_over_capacity_whoever_a_group_waits_for_keeps_its_place_longest(stragglers: float, paused: list[str]) -> None:
    scheduler = thunder(stragglers=stragglers)
    for n in range(3):
        answer(scheduler, f"done{n}", 20, 0.0, "g")
    for at, (name, group) in enumerate((("last", "g"), ("other", None), ("grows", None)), 1):
        answer(scheduler, name, 300, float(at), group)
    for n in range(3):
        scheduler.handle(ev.ProgramReleased(f"done{n}"), 5.0)
    effects = scheduler.handle(ev.CallArrived("c", "grows", 500), 6.0)
    assert [e.program for e in effects if isinstance(e, Paused)] == paused[:1]
    effects = scheduler.handle(ev.CallProgress("c", 350), 7.0)
    assert [e.program for e in effects if isinstance(e, Paused)] == paused[1:]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_where_no_groups_are_given_the_rule_for_groups_changes_no_decision(seed: int) -> None:
    nodes = [Node(make_policy("thunder", {"stragglers": share}), seed) for share in (0.0, 1.0)]
    for _ in range(300):
        told = []
        for node in nodes:
            node.now += node.dice.expovariate(2.0)
            event = node.next_event()
            told.append(node.handle(replace(event, group=None) if isinstance(event, ev.CallArrived) else event))
        assert told[0] == told[1]


@pytest.mark.parametrize("members", [8, 200, 2000])
def test_the_end_of_a_member_costs_no_more_in_a_large_group(members: int) -> None:
    noticed = 0

    class Counting(Thunder):
        def noticed(self, program: Program, now: float) -> None:
            nonlocal noticed
            noticed += 1
            Thunder.noticed(self, program, now)

    scheduler = Scheduler(Counting())
    scheduler.handle(ev.WorkerUp("w0", 10**9, 50.0), 0.0)
    for n in range(members):
        answer(scheduler, f"p{n}", 10, 0.0, "g")
    noticed = 0
    for n in range(members):
        scheduler.handle(ev.ProgramReleased(f"p{n}"), 1.0)
    assert noticed <= 10 * members


# ---------------------------------------------------------------------- baseline, continuum, shadow-price, oracle


def test_baseline_by_prefix_sends_a_group_to_one_worker_and_others_to_the_least_loaded() -> None:
    scheduler = Scheduler(make_policy("baseline", {"route": "prefix"}))
    for n in range(2):
        scheduler.handle(ev.WorkerUp(f"w{n}", 1000), 0.0)
    for n, group in enumerate((None, "g", None, "g", None, "g")):
        scheduler.handle(ev.CallArrived(f"c{n}", f"p{n}", 50, group), float(n))
    at = {name: p.worker for name, p in scheduler.programs.items()}
    assert at["p1"] == at["p3"] == at["p5"] != at["p0"]
    assert at["p4"] == at["p0"]


def test_continuum_serves_programs_in_the_order_they_came_however_large() -> None:
    scheduler = Scheduler(make_policy("continuum"))
    scheduler.handle(ev.WorkerUp("w0", 1000, 50.0), 0.0)
    scheduler.handle(ev.CallArrived("b", "busy", 800), 0.0)
    scheduler.handle(ev.CallArrived("l", "large", 700), 1.0)
    effects = scheduler.handle(ev.CallArrived("s", "small", 100), 2.0)
    assert not any(isinstance(e, Admit) for e in effects), "the small one would fit, but it came later"
    effects = scheduler.handle(ev.CallFinished("b", 800, 0, 1), 3.0)
    assert [e.program for e in effects if isinstance(e, Restored)] == ["large", "small"]


def test_continuum_unpins_a_context_when_its_time_to_live_has_passed() -> None:
    scheduler = Scheduler(make_policy("continuum"))
    scheduler.handle(ev.WorkerUp("w0", 1000, 50.0), 0.0)  # C ÷ rate: 20 s
    scheduler.handle(ev.CallArrived("b", "busy", 100), 0.0)
    scheduler.handle(ev.CallArrived("a", "acting", 700), 0.0)
    scheduler.handle(ev.CallFinished("a", 700, 0, 1), 0.0)
    scheduler.handle(ev.CallArrived("n", "new", 600), 1.0)
    assert scheduler.programs["new"].worker is None
    assert scheduler.next_deadline() == pytest.approx(20.0)
    effects = scheduler.handle(ev.Timer(), 20.0)
    assert [e.program for e in effects if isinstance(e, Paused)] == ["acting"]
    assert scheduler.programs["new"].worker == "w0"


def test_shadow_price_prefers_what_is_cached_under_pressure() -> None:
    scheduler = Scheduler(make_policy("shadow-price", {"wait_weight": 0.0}))
    scheduler.handle(ev.WorkerUp("w0", 10_000, 500.0), 0.0)
    scheduler.handle(ev.CallArrived("k", "known", 4000), 0.0)
    scheduler.handle(ev.CallFinished("k", 4000, 0, 0), 1.0)
    scheduler.handle(ev.CallArrived("b", "busy", 9_900), 1.0)  # known gives way
    assert scheduler.programs["known"].worker is None
    scheduler.handle(ev.CallArrived("u", "unknown", 3000), 2.0)
    for n in range(8):
        scheduler.handle(ev.CallArrived(f"x{n}", f"x{n}", 9_000), 2.0)
    scheduler.handle(ev.CallArrived("k2", "known", 4100), 3.0)
    effects = scheduler.handle(ev.CallFinished("b", 9_900, 0, 0), 4.0)
    assert [e.program for e in effects if isinstance(e, Restored)][0] == "known"


def test_the_oracle_keeps_exactly_the_contexts_that_are_worth_it() -> None:
    future = {"soon": [Ahead(5.0, 10)] * 2, "late": [Ahead(500.0, 10)] * 2, "new": [Ahead(1.0, 1)], "busy": []}
    scheduler = Scheduler(Oracle(future=future, growth_steps=0.0))
    scheduler.handle(ev.WorkerUp("w0", 1000, 50.0), 0.0)  # worth 20 s
    scheduler.handle(ev.CallArrived("b", "busy", 50), 0.0)
    for name in ("soon", "late"):
        scheduler.handle(ev.CallArrived(name, name, 400), 0.0)
        scheduler.handle(ev.CallFinished(name, 400, 0, 0), 0.0)
    effects = scheduler.handle(ev.CallArrived("n", "new", 450), 1.0)
    assert [e.program for e in effects if isinstance(e, Paused)] == ["late"]
    assert scheduler.programs["soon"].worker == scheduler.programs["new"].worker == "w0"


def test_the_oracle_is_not_among_the_policies_that_a_node_can_run() -> None:
    assert "oracle" not in POLICIES


# ---------------------------------------------------------------------- tool times and queues


@given(
    durations=st.lists(st.floats(0.01, 500), min_size=1, max_size=80),
    worth_s=st.floats(0.1, 200),
    other=st.floats(0, 600),
)
@settings(max_examples=200, deadline=None)
def test_no_time_to_keep_a_context_does_better_than_the_one_that_is_chosen(
    durations: list[float], worth_s: float, other: float
) -> None:
    known = Durations()
    for seconds in durations:
        known.add(seconds)

    def gain(keep_s: float) -> float:
        return sum(worth_s * (d <= keep_s) - min(d, keep_s) for d in durations)

    assert gain(known.keep_for(worth_s)) >= gain(other) - 1e-6


def test_an_unknown_tool_is_waited_for_as_long_as_a_hit_is_worth() -> None:
    tools = ToolTimes()
    assert tools.keep_for("make", 12.0) == 12.0
    for _ in range(ENOUGH):
        tools.add("ls", 0.5)
    assert tools.keep_for("make", 12.0) == tools.keep_for("ls", 12.0) == pytest.approx(12.5)
    for _ in range(ENOUGH):
        tools.add("make", 90.0)
    assert tools.keep_for("make", 12.0) == 0.0
    assert tools.keep_for("ls", 12.0) == pytest.approx(12.5)


@given(steps=st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans(), st.integers(0, 3)), max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_line_gives_what_a_heap_gives_while_keys_never_decrease(steps: list[tuple[str, bool, int]]) -> None:
    line, heap, key = Line(), LazyHeap[float](), 0
    for name, is_put, more in steps:
        key += more
        if is_put and name in line:
            line.remove(name)
            heap.remove(name)
        if is_put:
            line.put(name, key)
            heap.put(name, key)
        else:
            line.remove(name)
            heap.remove(name)
        assert line.first() == heap.first()
        assert len(line) == len(heap)


def test_while_everybody_fits_nobody_gives_up_a_place() -> None:
    scheduler, now = Scheduler(make_policy("thunder")), 0.0
    scheduler.handle(ev.WorkerUp("w0", 500_000, 10_000.0), now)
    for step in range(3):  # the same prompt size each time: a program that rewrites, whose context is worth nothing
        scheduler.handle(ev.CallArrived(f"a{step}", "a", 1000, None), now)
        scheduler.handle(ev.FirstToken(f"a{step}"), now + 0.1)
        scheduler.handle(ev.CallFinished(f"a{step}", 1000, 0, 20), now + 1)
        now += 2
    effects = scheduler.handle(ev.CallArrived("b", "b", 500, None), now)
    assert [e.call for e in effects if isinstance(e, Admit)] == ["b"]
    assert not [e for e in effects if isinstance(e, Paused)]
