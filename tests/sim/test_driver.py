"""Whole simulations: agents, scheduler and workers together."""

from __future__ import annotations

import ast
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import thunderctl.sim
from tests.sim.programs import random_programs
from thunderctl.core.policies import POLICIES, make_policy
from thunderctl.core.policies.base import Decision, Policy
from thunderctl.core.policies.baseline import Baseline
from thunderctl.core.scheduler import Scheduler
from thunderctl.report.stats import summarise
from thunderctl.sim.driver import simulate
from thunderctl.sim.result import SimResult
from thunderctl.sim.worker import SimWorker
from thunderctl.traces.trace import Assignment, Start, Trace, TraceProgram, TraceStep, Work
from thunderctl.workers.inside.thunderctl_timing import Measured

FORBIDDEN = {"time", "datetime", "random", "asyncio", "socket", "threading", "secrets", "os", "subprocess", "aiohttp"}
COST = Measured(fixed_s=0.01013, token_s=0.000171, pair_s=0.0000019, context_s=0.0000037)


def test_the_simulator_imports_no_clock_no_chance_and_no_network() -> None:
    files = list(Path(thunderctl.sim.__file__).parent.rglob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] not in FORBIDDEN, f"{file.name} imports {name}"


def trace_of(programs: list[TraceProgram]) -> Trace:
    return Trace("test", tuple(programs), "digest")


def program(*steps: TraceStep, first_prompt: int = 100, name: str = "t") -> TraceProgram:
    return TraceProgram(name, first_prompt, steps)


def with_parallel_calls(program: TraceProgram, dice: random.Random) -> TraceProgram:
    kind = dice.choice(["samples", "branches", "none"])
    if kind == "samples" and program.context_limit is None:
        return replace(program, samples=dice.randint(2, 4))
    return replace(program, branches=dice.randint(2, 4)) if kind == "branches" else program


def one_after_another(policy: str | Policy, programs: list[TraceProgram], **options: float) -> SimResult:
    """One agent on one roomy worker, the programs in some order."""
    work = Work(trace_of(programs), 1, programs=len(programs))
    chosen = make_policy(policy) if isinstance(policy, str) else policy
    return simulate(work, [SimWorker(COST, 1600)], chosen, agents=1, check=True, **options)


@pytest.mark.parametrize("policy", POLICIES)
@given(
    seed=st.integers(0, 2**32),
    agents=st.integers(1, 8),
    workers=st.integers(1, 3),
    start=st.sampled_from(["fresh", "steady"]),
    overhead=st.sampled_from([0.0, 0.02]),
)
@settings(max_examples=40, deadline=None)
def test_every_step_of_every_program_ends_exactly_once_and_every_invariant_holds_all_the_time(
    policy: str, seed: int, agents: int, workers: int, start: Start, overhead: float
) -> None:
    dice = random.Random(seed)
    trace = trace_of([with_parallel_calls(program, dice) for program in random_programs(dice)])
    specs = [SimWorker(COST, 4 * dice.randint(64, 130), 4, dice.randint(1, 5), 40) for _ in range(workers)]

    def queue() -> Work:
        return Work(trace, agents, programs=2 * agents, start=start, seed=seed)

    asked: dict[str, Assignment] = {a.id: a for a in taken(queue())}
    result = simulate(queue(), specs, make_policy(policy), agents=agents, call_overhead_s=overhead, check=True)
    ended = Counter((s["program"], s["step"]) for s in result.lines("steps"))
    assert ended == Counter(
        (a.id, step + 1) for a in asked.values() for step in range(a.first_step, len(a.program.steps))
    )
    assert [(r["program"], r["status"]) for r in result.rollouts()] == [(name, "finished") for name in sorted(asked)]
    for s in result.lines("steps"):
        calls = calls_of(asked[s["program"]], s["step"] - 1)
        assert s["prompt_tokens"] == sum(prompt for prompt, _ in calls)
        assert s["output_tokens"] == sum(output for _, output in calls)
        assert 0 <= s["cached_tokens"] < s["prompt_tokens"]
        assert s["latency_s"] - s["held_s"] >= COST.step_s(tokens=1, context=1, pairs=1) + overhead - 1e-9
        assert s["ended"] == pytest.approx(s["at"] + s["latency_s"] + s["tool_s"])
    for ours in result.sampled().values():
        assert ours[-1]["engine"]["running"] == ours[-1]["engine"]["waiting"] == 0


def calls_of(assignment: Assignment, step: int) -> list[tuple[int, int]]:
    """Prompt and output of each call of a step, counted anew from the trace."""
    known, found = assignment.program, []
    for number in range(max(known.samples, known.branches)):
        prompt = known.prompt_at(assignment.first_step)
        for n in range(assignment.first_step, step):
            added = known.steps[(n + (number if known.branches > 1 else 0)) % len(known.steps)]
            prompt += added.output + added.observation
        said = known.steps[(step + number) % len(known.steps)]
        limit = prompt if known.context_limit is None else known.context_limit
        found.append((min(prompt, limit), max(1, said.reasoning + said.output)))
    return found


def taken(work: Work) -> Iterator[Assignment]:
    while (assignment := work.take()) is not None:
        yield assignment


@pytest.mark.parametrize("policy", POLICIES)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_same_inputs_give_the_same_records_byte_for_byte(policy: str, seed: int) -> None:
    def once() -> SimResult:
        dice = random.Random(seed)
        trace = trace_of(random_programs(dice))
        workers = [SimWorker(COST, 4 * 60, 4, 5, 40)] * 2
        return simulate(Work(trace, 6, seed=seed), workers, make_policy(policy), agents=6, duration_s=4.0)

    first, second = once(), once()
    assert first == second
    assert json.dumps(first.records) == json.dumps(second.records)


def test_samples_of_one_prompt_are_computed_once_and_the_first_ones_answer_goes_on() -> None:
    steps = (TraceStep(16, 0, 16, 1.0), TraceStep(32, 0, 0, 0.0))
    alone, sampled = (
        one_after_another("thunder", [replace(program(*steps, first_prompt=160), samples=n)]) for n in (1, 3)
    )
    assert [s["prompt_tokens"] for s in sampled.lines("steps")] == [3 * 160, 3 * 192]
    assert [s["cached_tokens"] for s in alone.lines("steps")] == [0, 160]
    # Two samples find all but the last block of the first one's prompt, and then the first prompt and its answer.
    assert [s["cached_tokens"] for s in sampled.lines("steps")] == [2 * 144, 160 + 2 * 176]


def test_branches_have_the_first_prompt_in_common_and_then_contexts_of_their_own() -> None:
    steps = (TraceStep(16, 0, 16, 1.0), TraceStep(32, 0, 0, 0.0))
    result = one_after_another("thunder", [replace(program(*steps, first_prompt=160), branches=2)])
    first, second = result.lines("steps")
    assert (first["prompt_tokens"], second["prompt_tokens"]) == (320, 192 + 192)
    assert first["cached_tokens"] == 144
    assert second["cached_tokens"] == 160 + 176  # what each said itself is found as well


def test_a_lone_program_takes_the_time_of_its_calls_and_tools() -> None:
    result = one_after_another("baseline", [program(TraceStep(3, 0, 10, 2.0), TraceStep(1, 0, 0, 0.0))])
    first, second = result.lines("steps")
    prefill = COST.step_s(tokens=100, context=100, pairs=100 * 101 // 2)
    decode = [COST.step_s(tokens=1, context=c, pairs=c) for c in (101, 102)]
    assert first["latency_s"] == pytest.approx(prefill + sum(decode))
    assert second["at"] == pytest.approx(first["latency_s"] + 2.0)
    # 113 tokens of prompt; 102 were computed before, which fills 6 blocks of 16.
    assert second["cached_tokens"] == 96
    assert second["latency_s"] == pytest.approx(COST.step_s(tokens=17, context=113, pairs=17 * 96 + 17 * 18 // 2))


def test_the_overhead_of_calls_is_outside_the_engine_and_inside_the_latency() -> None:
    programs = [program(TraceStep(5, 0, 0, 0.0))]
    without, plus = (one_after_another("baseline", programs, call_overhead_s=s) for s in (0.0, 0.5))
    fast, slow = next(without.lines("steps")), next(plus.lines("steps"))
    assert slow["latency_s"] == pytest.approx(fast["latency_s"] + 0.5)


def test_reasoning_is_generated_but_neither_kept_nor_found_again() -> None:
    thinks = one_after_another("baseline", [program(TraceStep(50, 60, 0, 0.1), TraceStep(1, 0, 0, 0.0))])
    first, second = thinks.lines("steps")
    assert (first["output_tokens"], second["prompt_tokens"], second["cached_tokens"]) == (110, 150, 96)
    plain = one_after_another("baseline", [program(TraceStep(50, 0, 0, 0.1), TraceStep(1, 0, 0, 0.0))])
    assert [s["cached_tokens"] for s in plain.lines("steps")] == [0, 144]


def test_a_context_that_is_cut_on_the_left_is_found_no_more() -> None:
    steps = [TraceStep(10, 0, 40, 0.1) for _ in range(3)]
    cut = TraceProgram("t", 100, tuple(steps), context_limit=160)
    result = one_after_another("baseline", [cut])
    assert [(s["prompt_tokens"], s["cached_tokens"]) for s in result.lines("steps")] == [(100, 0), (150, 96), (160, 0)]


def test_what_programs_have_in_common_is_computed_once() -> None:
    step = TraceStep(4, 0, 0, 0.0)
    alone = [TraceProgram(f"t{n}", 100, (step,)) for n in range(3)]
    shared = [TraceProgram(f"t{n}", 100, (step,), shared_prefix=50) for n in range(3)]
    grouped = [TraceProgram(f"t{n}", 100, (step,), group="g", shared_prefix=50) for n in range(3)]
    found = [
        [s["cached_tokens"] for s in one_after_another("baseline", programs).lines("steps")]
        for programs in (alone, shared, grouped)
    ]
    assert found == [[0, 0, 0], [0, 48, 48], [0, 96, 96]]


def test_calls_in_flight_at_the_end_of_the_time_are_dropped_and_their_programs_cut_off() -> None:
    trace = trace_of([program(*[TraceStep(20, 0, 5, 0.5)] * 10)])
    result = simulate(Work(trace, 3), [SimWorker(COST, 1600)], make_policy("thunder"), agents=3, duration_s=2.0)
    assert {r["status"] for r in result.rollouts()} == {"cut off"}
    steps = list(result.lines("steps"))
    assert steps and all(s["ended"] <= 2.0 for s in steps)
    assert sum(r["steps"] for r in result.rollouts()) == len(steps)
    assert result.read("manifest.json")["window"] == [0.0, 2.0]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_context_that_no_worker_can_hold_fails_its_program_and_no_other(policy: str) -> None:
    small, large = (
        program(TraceStep(5, 0, 0, 0.0), name="small"),
        program(TraceStep(5, 0, 2000, 0.1), TraceStep(5, 0, 0, 0.0), name="large"),
    )
    result = one_after_another(policy, [small, large])
    outcome = {r["instance_id"]: (r["status"], r["steps"]) for r in result.rollouts()}
    assert outcome == {"small": ("finished", 1), "large": ("failed", 1)}
    assert "too long" in next(r["error"] for r in result.rollouts() if r["status"] == "failed")


def test_calls_are_sent_again_when_the_scheduler_refuses_them_and_given_up_in_the_end() -> None:
    work = Work(trace_of([program(TraceStep(5, 0, 0, 0.0))]), 1, programs=1)
    result = simulate(work, [], make_policy("thunder"), agents=1)
    assert [r["status"] for r in result.rollouts()] == ["failed"]
    refused = [d["at"] for d in result.lines("decisions") if d["effect"] == "Reject"]
    assert refused == [5.0 * n for n in range(6)]  # at once, and after each Retry-After


def test_a_policy_that_admits_nobody_is_told_of_instead_of_waited_for() -> None:
    class Never(Baseline):
        name: ClassVar[str] = "never"

        def decide(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
            return iter(())

    with pytest.raises(RuntimeError, match="1 agents wait for ever"):
        one_after_another(Never(), [program(TraceStep(5, 0, 0, 0.0))])


def test_a_report_can_be_made_of_a_simulation() -> None:
    dice = random.Random(7)
    trace = trace_of(random_programs(dice))
    result = simulate(
        Work(trace, 4, programs=12), [SimWorker(COST, 600, 4)] * 2, make_policy("thunder"), agents=4, sample_s=0.05
    )
    summary = summarise(result)
    steps = list(result.lines("steps"))
    assert summary["throughput"]["steps"] == len(steps) > 0
    assert (summary["kind"], summary["engine"], summary["policy"]) == ("trace", "simulated", "thunder")
    assert summary["agents"]["by_status"] == {"finished": 12}
    # Two counts of the same thing, by the engine and by its clients.
    assert summary["hit_rate"] == pytest.approx(summary["engine_hit_rate"]) and summary["hit_rate"] > 0.1
    last = [samples[-1]["engine"] for samples in result.sampled().values()]
    assert sum(e["generation_tokens"] for e in last) == sum(s["output_tokens"] for s in steps)
    assert sum(e["prompt_tokens"] for e in last) == sum(s["prompt_tokens"] for s in steps)
    assert sum(summary["kv_space_time"][use] for use in ("decode", "prefill", "recompute", "caching", "unused")) == (
        pytest.approx(1.0)
    )


def test_samples_are_taken_at_even_times_and_once_more_at_the_end() -> None:
    result = one_after_another("baseline", [program(TraceStep(5, 0, 0, 5.0))], sample_s=2.0)
    assert [s["at"] for s in result.lines("samples")][:3] == [0.0, 2.0, 4.0]
    last = list(result.lines("samples"))[-1]
    assert last["at"] > 5.0 and last["resident_tokens"] == 6 * 16


@pytest.mark.parametrize("wrong", [{"agents": 0}, {"sample_s": 0.0}, {"call_overhead_s": -1.0}], ids=str)
def test_figures_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    work = Work(trace_of([program(TraceStep(5, 0, 0, 0.0))]), 1, programs=1)
    with pytest.raises(ValueError, match="a simulation wants"):
        simulate(work, [SimWorker(COST, 1600)], make_policy("baseline"), **{"agents": 1, **wrong})  # type: ignore[arg-type]
