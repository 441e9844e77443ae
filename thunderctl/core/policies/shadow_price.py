"""``shadow-price``: AgentSched of AgentInfer (arXiv 2512.18337), as descriptions of it tell; not quoted from it.

The cache has a price that rises with the pressure on it. At a low price short prompts go first, whether cached or
not; at a high one whatever is cached already. Of the n programs that wait, in blocks of the cache:

    U = max(0, N − Σ hit)      z = Σ need ÷ U      λ = λmax·σ(k·(z − 1))      mix = clamp(1 − λ ÷ λmax)
    need_eff = mix·prompt + (1 − mix)·need         score = a·hit − (b + λ)·need_eff + c·wait

and the best score that fits is taken. The original decides inside the engine, which knows each hit. Here, a program's
context counts as cached until it has been off its worker for the time that the worker takes to prefill its whole
cache; contexts that act give way, the longest idle first, while anybody waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from thunderctl.core.ledger import Acting, LazyHeap, Line, WorkerLedger
from thunderctl.core.policies.base import Decision, Pause, Place
from thunderctl.core.program import Program, Status

if TYPE_CHECKING:
    from thunderctl.core.scheduler import Scheduler

BLOCK_TOKENS = 16
CONSIDERED = 512
"""Waiting programs that are scored, those that have waited longest: a decision costs no more with 100,000 of them."""
UNKNOWN_RESIDENCE_S = 10.0
"""For how long a context counts as cached while a worker's prefill rate is not known."""


@dataclass(slots=True)
class ShadowPrice:
    """``lambda_max``: highest price. ``steepness``: k above. ``hit_weight``, ``need_weight``, ``wait_weight``: a, b
    and c above, a point for each block or each second of waiting. ``max_pause_s``: a call held for longer is admitted
    whatever the capacity says. The descriptions give no values; these are ours.
    """

    name: ClassVar[str] = "shadow-price"
    lambda_max: float = 1.0
    steepness: float = 4.0
    hit_weight: float = 1.0
    need_weight: float = 0.2
    wait_weight: float = 1.0
    max_pause_s: float = 1800.0
    _waiting: dict[str, Program] = field(default_factory=dict, init=False)
    _overdue: LazyHeap[float] = field(default_factory=LazyHeap, init=False)
    _acting: Acting = field(default_factory=lambda: Acting(Line), init=False)
    """The longest idle first."""

    def __post_init__(self) -> None:
        if self.lambda_max <= 0 or self.max_pause_s <= 0:
            raise ValueError("policy 'shadow-price' wants lambda_max and max_pause_s above 0")

    def half_life(self, worker: WorkerLedger) -> float:
        return math.inf

    def noticed(self, program: Program, now: float) -> None:
        name = program.id
        self._acting.noticed(program, program.since)
        if program.status is Status.PAUSED and program.paused_since is not None:
            self._waiting[name] = program
            self._overdue.put(name, program.paused_since + self.max_pause_s)
        else:
            self._waiting.pop(name, None)
            self._overdue.remove(name)

    def rank(self, program: Program, now: float) -> float:
        return program.paused_since or now

    def decide(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        workers = scheduler.live_workers
        for name in list(scheduler.touched):
            if name in scheduler.workers:
                yield from self._make_room(scheduler.workers[name], now)
        while workers and (late := self._overdue.first()) is not None and late[0] <= now:
            emptiest = min(workers, key=lambda w: w.reasoning / w.capacity)
            yield Place(late[1], emptiest.name, "held for the longest time allowed", forced=True)
        while workers and self._waiting:
            best = self._best(workers, now)
            if best is None:
                return
            yield best
            yield from self._make_room(scheduler.workers[best.worker], now)

    def _make_room(self, worker: WorkerLedger, now: float) -> Iterator[Decision]:
        """Bring the worker back under its capacity, as far as acting programs can."""
        while worker.used(now) > worker.capacity:
            victim = self._acting.first(worker.name)
            if victim is None:
                return
            yield Pause(victim, "gives way: longest idle")

    def _best(self, workers: list[WorkerLedger], now: float) -> Place | None:
        """The waiting program with the best score that fits; ``None`` if none fits."""
        room = {w.name: w.capacity - w.reasoning for w in workers}
        waiting = [p for p, _ in zip(self._waiting.values(), range(CONSIDERED), strict=False)]
        hits = {p.id: self._hit(workers, p, now) for p in waiting}
        unused = max(1, sum(w.capacity for w in workers) // BLOCK_TOKENS - sum(hits.values()))
        needed = sum(p.tokens // BLOCK_TOKENS - hits[p.id] for p in waiting)
        pressure = min(50.0, self.steepness * (needed / unused - 1))
        price = self.lambda_max / (1 + math.exp(-pressure))
        mix = 1 - price / self.lambda_max

        def score(program: Program) -> float:
            prompt, hit = program.tokens / BLOCK_TOKENS, hits[program.id]
            need = mix * prompt + (1 - mix) * (prompt - hit)
            waited = now - (program.paused_since or now)
            return self.hit_weight * hit - (self.need_weight + price) * need + self.wait_weight * waited

        idle = {w.name for w in workers if not w.reasoning_programs}
        emptiest = max(room, key=lambda name: room[name])
        for program in sorted(waiting, key=score, reverse=True):
            home = program.origin if hits[program.id] else None
            where = home if home is not None and room[home] >= program.tokens else emptiest
            if program.tokens <= room[where] or where in idle:
                forced = program.tokens > room[where]
                return Place(program.id, where, "best score that fits", forced=forced)
        return None

    def _hit(self, workers: list[WorkerLedger], program: Program, now: float) -> int:
        """Blocks of its prompt that its worker most likely still caches."""
        for worker in workers:
            if worker.name == program.origin:
                rate = worker.prefill_tokens_per_s
                stays_s = worker.capacity / rate if rate else UNKNOWN_RESIDENCE_S
                return program.context_tokens // BLOCK_TOKENS if now - program.rested < stays_s else 0
        return 0

    def next_check(self, scheduler: Scheduler, now: float) -> float | None:
        late = self._overdue.first()
        return late[0] if late else None
