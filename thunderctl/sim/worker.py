"""One worker: vLLM's engine loop, step by step, with the time of a step taken from a ``StepCost``.

The rules are those of vLLM's scheduler (v1/core/sched/scheduler.py, read at 0.32) with its default settings:

- a step takes the running requests first, in order, one token for each that decodes and as much of an unfinished
  prompt as the token budget leaves; then waiting ones, first come first served, while the budget, ``max_num_seqs``
  and blocks for the *whole* prompt last (``scheduler_reserve_full_isl``);
- a prompt's cached full blocks are not computed again, except that its last token always is;
- a running request that cannot get a block preempts the last running one (perhaps itself): blocks freed, back to the
  head of the queue; no waiting request is let in during such a step;
- blocks that a step fills can be hit by requests which enter in the same step.

Left out: asynchronous scheduling (vLLM plans a step while the one before runs, so a request joins up to one step
later), speculative decoding and priorities.

All requests that decode advance together, so they are not visited one by one: with sums, a table of how many need a
block when, and a heap of who ends when, a step costs O(prompts in it). Every step is taken and timed by itself; no
steps are lumped together, so there is no error to bound.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from thunderctl.sim.clock import Clock
from thunderctl.sim.kv import BlockPool, Lease, Path
from thunderctl.workers.inside.thunderctl_timing import StepCost, pairs_of


@dataclass(frozen=True, slots=True)
class SimWorker:
    """What one worker is. Sizes in tokens, except ``max_num_seqs``; defaults are vLLM's for an API server."""

    cost: StepCost
    kv_tokens: int
    block_size: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_model_len: int | None = None
    """Longest context; ``None``: whatever fits the KV blocks."""

    def __post_init__(self) -> None:
        if self.block_size < 1 or self.max_num_seqs < 1 or self.blocks < 2:
            raise ValueError("a worker needs block_size and max_num_seqs of 1 or more, and at least two KV blocks")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError("max_num_batched_tokens must be at least max_num_seqs, as vLLM demands")

    @property
    def blocks(self) -> int:
        """vLLM's ``num_gpu_blocks``."""
        return self.kv_tokens // self.block_size


@dataclass(slots=True, eq=False)
class Request:
    """One call inside a worker."""

    call: str
    prompt: int
    generate: int
    """Tokens it will generate, 1 or more."""
    path: Path
    cached: int | None = None
    """Prompt tokens that were cached when it first ran."""
    generated: int = 0
    place: int = -1
    """Its rank among the running requests; -1 while it waits."""
    computed: int = 0
    """Tokens with KV. Once it decodes: those it had when its first decoding step began."""
    joined: int = -1
    """The worker's step count at that moment; -1 before."""
    lease: Lease = field(init=False, repr=False)
    """What it holds while it runs."""

    def __post_init__(self) -> None:
        self.lease = Lease(self.path, 0)

    @property
    def tokens(self) -> int:
        """What must be computed before it can go on: its prompt and, after a preemption, its answer so far."""
        return self.prompt + self.generated


@dataclass(slots=True)
class Counters:
    """What vLLM's ``/metrics`` count, in tokens unless named otherwise."""

    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    """Requests preempted."""
    prompt_tokens: int = 0
    prompt_tokens_cached: int = 0
    generation_tokens: int = 0


class Worker:
    """Requests go in through :meth:`submit`; each is told of twice, at its first token and at its end."""

    def __init__(
        self,
        name: str,
        spec: SimWorker,
        clock: Clock,
        *,
        on_first_token: Callable[[Request], None],
        on_finish: Callable[[Request], None],
    ) -> None:
        self.name = name
        self.spec = spec
        self.pool = BlockPool(spec.blocks)
        self.counters = Counters()
        self.steps = 0
        """Steps begun so far."""
        self._clock = clock
        self._on_first_token = on_first_token
        self._on_finish = on_finish
        self._awake = False
        self._waiting: deque[Request] = deque()
        self._running: dict[Request, None] = {}
        self._places = 0
        # The requests that decode, as sums. One that joined at step j with c tokens has c + (steps - j) of them.
        self._decoding = 0
        self._context = 0
        self._crossing = [0] * spec.block_size  # how many begin a block in steps ≡ i (mod block size)
        self._ends: list[tuple[int, int, Request]] = []
        # The prompts of the step in progress: (request, tokens before, tokens in this step).
        self._prompts: list[tuple[Request, int, int]] = []
        self._unfinished: Request | None = None
        """The running request whose prompt is not through: the budget ends there, so there is one, and it is last."""

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def accepts(self, prompt: int, generate: int) -> bool:
        """Whether a context of that length can ever run here; vLLM answers 400 otherwise."""
        longest = self.pool.usable * self.spec.block_size
        if self.spec.max_model_len is not None:
            longest = min(longest, self.spec.max_model_len)
        return prompt + generate <= longest

    def submit(self, request: Request) -> None:
        """Queue a request that is accepted. It can run from the end of the step in progress."""
        self._waiting.append(request)
        if not self._awake:
            # Whatever else arrives at this very moment comes into the same step.
            self._awake = True
            self._clock.call_in(0.0, self._begin)

    # ------------------------------------------------------------------ a step

    def _begin(self) -> None:
        self._prompts.clear()
        budget = self.spec.max_num_batched_tokens
        if self._grow(budget):
            self._admit(budget - self._decoding - sum(new for _, _, new in self._prompts))
        tokens = sampled = self._decoding
        self._context += tokens
        context = pairs = self._context
        for request, before, new in self._prompts:
            tokens += new
            sampled += before + new == request.tokens
            context += before + new
            pairs += pairs_of(before, new)
        if not tokens:
            self._awake = False
            return
        self.steps += 1
        seconds = self.spec.cost.step_s(tokens=tokens, context=context, pairs=pairs, sampled=sampled)
        self._clock.call_in(seconds, self._end)

    def _end(self) -> None:
        self.counters.generation_tokens += self._decoding
        while self._ends and self._ends[0][0] <= self.steps:
            _, place, request = heapq.heappop(self._ends)
            if request.place == place:
                self._finish(request)
        for request, before, new in self._prompts:
            request.computed = before + new
            if request.computed == request.tokens:
                self._answer(request)
        self._begin()

    def _answer(self, request: Request) -> None:
        """The prompt is through, and the first token after it is there."""
        request.generated += 1
        self.counters.generation_tokens += 1
        if request.generated == 1:
            self.counters.prompt_tokens += request.prompt
            self.counters.prompt_tokens_cached += request.cached or 0
            self._on_first_token(request)
        request.joined = self.steps
        self._decoding += 1
        self._context += request.computed
        self._crossing[(self.steps - request.computed) % self.spec.block_size] += 1
        left = request.generate - request.generated
        if left:
            heapq.heappush(self._ends, (self.steps + left, request.place, request))
        else:
            self._finish(request)

    def _finish(self, request: Request) -> None:
        del self._running[request]
        self._leave(request)
        self._on_finish(request)

    def _leave(self, request: Request) -> None:
        """Take a request out of the batch and its blocks back; ``generated`` tells how far it came."""
        computed = self._computed(request)
        if request.joined >= 0:
            self._crossing[(request.joined - request.computed) % self.spec.block_size] -= 1
            request.generated += computed - request.computed
            self._decoding -= 1
            self._context -= computed
        self.pool.release(request.lease, self._blocks(computed), computed // self.spec.block_size)
        request.place, request.joined, request.computed = -1, -1, 0

    # ------------------------------------------------------------------ those that run

    def _grow(self, budget: int) -> bool:
        """Give the running requests the blocks of their next tokens. False if some were preempted for it."""
        needed = self._crossing[self.steps % self.spec.block_size]
        chunk = 0
        if self._unfinished is not None:
            chunk = min(self._unfinished.tokens - self._unfinished.computed, budget - self._decoding)
            needed += self._blocks_for(self._unfinished, chunk)
        if needed > self.pool.free:
            return self._squeeze(budget)
        self.pool.take(needed)
        if self._unfinished is not None:
            self._schedule(self._unfinished, self._unfinished.computed, chunk)
        return True

    def _squeeze(self, budget: int) -> bool:
        """The same when blocks are short: in the order of admission, the last ones giving way to the first."""
        everyone = list(self._running)
        for request in everyone:
            if request.place < 0:
                break
            new = 1
            if request is self._unfinished:
                new = min(request.tokens - request.computed, budget - self._decoding)
            needed = self._blocks_for(request, new)
            while request.place >= 0 and needed > self.pool.free:
                self._preempt()
            if request.place >= 0:
                self.pool.take(needed)
                if request is self._unfinished:
                    self._schedule(request, request.computed, new)
        return False

    def _preempt(self) -> None:
        """The last running request gives its blocks back and waits again, before all others."""
        victim, _ = self._running.popitem()
        if victim is self._unfinished:
            self._unfinished = None
        self._leave(victim)
        self._waiting.appendleft(victim)
        self.counters.preemptions += 1

    def _blocks_for(self, request: Request, new: int) -> int:
        """Blocks that ``new`` more tokens need beyond those it holds."""
        computed = self._computed(request)
        return self._blocks(computed + new) - self._blocks(computed)

    def _computed(self, request: Request) -> int:
        """Its tokens with KV, those of the decoding step in progress included."""
        return request.computed + (self.steps - request.joined if request.joined >= 0 else 0)

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.spec.block_size)

    # ------------------------------------------------------------------ those that wait

    def _admit(self, budget: int) -> None:
        size, pool = self.spec.block_size, self.pool
        while self._waiting and budget > 0 and len(self._running) < self.spec.max_num_seqs:
            request = self._waiting[0]
            hit = pool.lookup(request.path, (request.tokens - 1) // size)
            if pool.price(request.path, hit, self._blocks(request.tokens)) > pool.free:
                return
            self._waiting.popleft()
            if request.cached is None:
                request.cached = hit * size
                self.counters.prefix_queries += request.prompt
                self.counters.prefix_hits += request.cached
            self._places += 1
            request.place = self._places
            self._running[request] = None
            request.lease = pool.lease(request.path, hit)
            request.computed = hit * size
            new = min(request.tokens - request.computed, budget)
            pool.take(self._blocks_for(request, new))
            self._schedule(request, request.computed, new)
            budget -= new

    def _schedule(self, request: Request, before: int, new: int) -> None:
        """A piece of a prompt is in the coming step; blocks that it fills can be hit at once."""
        self._prompts.append((request, before, new))
        self.pool.register(request.lease, (before + new) // self.spec.block_size)
        self._unfinished = request if before + new < request.tokens else None

    # ------------------------------------------------------------------ invariants

    def check(self) -> None:
        """Assert that sums and blocks agree with a fresh count. Costs O(running requests)."""
        decoding = [r for r in self._running if r.joined >= 0]
        context = sum(map(self._computed, decoding))
        assert (self._decoding, self._context) == (len(decoding), context), f"{self.name}: sums of the batch"  # noqa: S101
        coming = {request: new for request, _, new in self._prompts if request.joined < 0}
        self.pool.check((r.lease, self._blocks(self._computed(r) + coming.get(r, 0))) for r in self._running)
