"""The engine loop against one that visits every request and every block in every step."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.block_by_block import NaiveEngine, NaivePool, NaiveRequest, tokens_of
from tests.sim.programs import SIZE, random_programs
from thunderctl.sim.clock import Clock
from thunderctl.sim.context import Commons, Context
from thunderctl.sim.kv import END, Segment
from thunderctl.sim.worker import Request, SimWorker, Worker
from thunderctl.traces.trace import TraceProgram
from thunderctl.workers.inside.thunderctl_timing import Measured

COST = Measured(fixed_s=0.01013, token_s=0.000171, pair_s=0.0000019, context_s=0.0000037, sample_s=0.00029)
"""Odd figures, so that nothing ends at the same moment by chance."""

Seen = tuple[str, float, str, int, int, int, int, int]
"""What, when, who, which step, tokens that were cached; then blocks free, blank and evicted so far."""


def longest(program: TraceProgram) -> int:
    """Blocks that its largest call needs."""
    sizes = [sum(map(len, tokens_of("p", program, step))) for step in range(len(program.steps))]
    return -(-max(sizes) // SIZE)


@dataclass
class Recorder:
    """Cost of steps as the worker asks for them."""

    steps: list[tuple[int, int, int, int]] = field(default_factory=list)

    def step_s(self, *, tokens: int, context: int, pairs: int, sampled: int) -> float:
        self.steps.append((tokens, context, pairs, sampled))
        return COST.step_s(tokens=tokens, context=context, pairs=pairs, sampled=sampled)


def run(spec: SimWorker, programs: list[TraceProgram], starts: list[float]) -> tuple[list[Seen], Worker]:
    """Each program's calls one after another, with its tools between them, on our worker."""
    clock, seen = Clock(), list[Seen]()
    commons = Commons(spec.block_size)
    contexts = [Context(program, commons) for program in programs]

    def call(n: int, step: int) -> None:
        this = programs[n].steps[step]
        generate = max(1, this.reasoning + this.output)
        prompt, path = contexts[n].call(programs[n].prompt_at(step), drops_answer=generate != this.output)
        worker.check()
        worker.submit(Request(f"{n}.{step}", prompt, generate, path))

    def note(what: str, request: Request) -> None:
        n, step = map(int, request.call.split("."))
        pool = worker.pool
        seen.append((what, clock.now, f"p{n}", step, request.cached or 0, pool.free, pool.blank, pool.evicted))
        if what == "end" and step + 1 < len(programs[n].steps):
            clock.call_in(programs[n].steps[step].tool_s, call, n, step + 1)

    worker = Worker(
        "w0", spec, clock, on_first_token=lambda r: note("first token", r), on_finish=lambda r: note("end", r)
    )
    for n, start in enumerate(starts):
        clock.call_at(start, call, n, 0)
    clock.run()
    return seen, worker


def run_naively(
    spec: SimWorker, programs: list[TraceProgram], starts: list[float]
) -> tuple[list[Seen], list[tuple[int, int, int, int]], NaiveEngine]:
    """The same on the naive engine; also the sums of every step."""
    engine = NaiveEngine(spec.block_size, spec.max_num_seqs, spec.max_num_batched_tokens, NaivePool(spec.blocks))
    arrivals = [(start, n, 0) for n, start in enumerate(starts)]
    heapq.heapify(arrivals)
    seen: list[Seen] = []
    steps: list[tuple[int, int, int, int]] = []
    now = 0.0
    while arrivals or engine.waiting or engine.running:
        if not engine.waiting and not engine.running:
            now = max(now, arrivals[0][0])
        while arrivals and arrivals[0][0] <= now:
            _, n, step = heapq.heappop(arrivals)
            engine.waiting.append(NaiveRequest(f"p{n}", step, *tokens_of(f"p{n}", programs[n], step)))
        tokens, context, pairs, sampled = engine.schedule()
        steps.append((tokens, context, pairs, sampled))
        now += COST.step_s(tokens=tokens, context=context, pairs=pairs, sampled=sampled)
        pool = engine.pool
        for what, request, free, blank in engine.finish_step():
            n = int(request.name[1:])
            seen.append((what, now, request.name, request.step, request.cached or 0, free, blank, pool.evicted))
            if what == "end" and request.step + 1 < len(programs[n].steps):
                heapq.heappush(arrivals, (now + programs[n].steps[request.step].tool_s, n, request.step + 1))
    return seen, steps, engine


@given(seed=st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_every_step_and_every_answer_is_that_of_an_engine_which_visits_all_requests_and_blocks(seed: int) -> None:
    dice = random.Random(seed)
    programs = random_programs(dice, most=9)
    starts = [dice.choice([0.0, dice.uniform(0, 0.5)]) for _ in programs]
    seqs = dice.randint(1, 6)
    budget = dice.randint(seqs, 50)
    blocks = max(map(longest, programs)) + dice.randint(1, 15)
    recorder = Recorder()
    spec = SimWorker(recorder, blocks * SIZE, SIZE, seqs, budget)  # type: ignore[arg-type]
    seen, worker = run(spec, programs, starts)
    expected, steps, engine = run_naively(spec, programs, starts)
    assert recorder.steps == steps
    assert seen == expected
    assert worker.counters.preemptions == engine.preemptions
    assert all(tokens <= budget for tokens, _, _, _ in recorder.steps)
    assert worker.pool.free == worker.pool.usable
    ends = [(name, step) for what, _, name, step, *_ in seen if what == "end"]
    assert sorted(ends) == [(f"p{n}", step) for n, program in enumerate(programs) for step in range(len(program.steps))]
    generated = sum(max(1, s.reasoning + s.output) for program in programs for s in program.steps)
    assert worker.counters.generation_tokens == generated


def serve(spec: SimWorker, calls: list[tuple[int, int]]) -> tuple[list[tuple[str, float]], Worker]:
    """Calls (prompt, answer) with nothing in common that all arrive at once; who ended when."""
    clock, ended = Clock(), list[tuple[str, float]]()
    worker = Worker(
        "w0", spec, clock, on_first_token=lambda r: None, on_finish=lambda r: ended.append((r.call, clock.now))
    )
    for n, (prompt, generate) in enumerate(calls):
        worker.submit(Request(f"c{n}", prompt, generate, ((Segment(0), END),)))
    clock.run()
    return ended, worker


def test_a_lone_call_takes_one_step_for_its_prompt_and_one_for_each_further_token() -> None:
    cost = Measured(fixed_s=1.0, token_s=0.0, pair_s=0.0, context_s=0.0)
    ended, worker = serve(SimWorker(cost, 160), [(100, 8)])
    assert ended == [("c0", 8.0)]
    assert worker.steps == 8


def test_a_prompt_longer_than_the_budget_is_computed_in_pieces() -> None:
    cost = Measured(fixed_s=1.0, token_s=0.0, pair_s=0.0, context_s=0.0)
    ended, _ = serve(SimWorker(cost, 1600, max_num_seqs=4, max_num_batched_tokens=40), [(100, 1)])
    assert ended == [("c0", 3.0)]


def test_first_come_first_served_when_places_are_few() -> None:
    ended, _ = serve(SimWorker(COST, 16000, max_num_seqs=1), [(50, 4), (10, 1), (30, 2)])
    assert [name for name, _ in ended] == ["c0", "c1", "c2"]


def test_the_last_to_come_gives_way_when_blocks_run_out_and_still_answers_in_full() -> None:
    # Two contexts of 40 tokens grow to 100 each in 9 usable blocks of 16: only one of them can.
    ended, worker = serve(SimWorker(COST, 160), [(40, 60), (40, 60)])
    assert [name for name, _ in ended] == ["c0", "c1"]
    assert worker.counters.preemptions == 1
    assert worker.counters.generation_tokens == 120
    assert worker.counters.prompt_tokens == 80  # what is computed again after a preemption is no new prompt


def test_a_context_that_could_never_run_is_not_accepted() -> None:
    _, worker = serve(SimWorker(COST, 160, max_model_len=120), [])
    assert worker.accepts(100, 20) and not worker.accepts(100, 21)
    _, worker = serve(SimWorker(COST, 160), [])
    assert worker.accepts(100, 44) and not worker.accepts(100, 45)  # one of ten blocks is vLLM's null block


@pytest.mark.parametrize(
    "sizes", [{"block_size": 0}, {"kv_tokens": 16}, {"max_num_seqs": 0}, {"max_num_seqs": 9000}], ids=str
)
def test_a_worker_that_vllm_would_refuse_to_start_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least|at least two KV blocks"):
        SimWorker(COST, **{"kv_tokens": 1600, **sizes})
