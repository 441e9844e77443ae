"""``paper``: ThunderAgent as published (arXiv 2602.13692, sections 4.2 and 4.3).

| rule of the paper | here |
| --- | --- |
| 4.2: cost is space × time: decode, prefill, recompute, unused, caching | ``core/cost.py``, booked by the scheduler |
| 4.3: check every Δt | ``delta_t_s``, ``next_check``, ``decide`` |
| 4.3: thrashing: Σ reasoning + Σ acting·f(t) > λmax·C | ``_relieve`` with ``WorkerLedger.used`` |
| 4.3: f(t) = x^−t over the elapsed acting time | ``decay_base``, ``half_life``, ``ledger.FadingSum`` |
| 4.3: S_pause: acting before reasoning, shortest first | ``_relieve`` |
| 4.3: S_restore: reasoning before acting, shortest first | ``_restore`` |
| 4.3: one global queue, best-fit-decreasing placement, up to λmin·C | ``_restore`` |
| 4.3: what a check leaves unused lasts Δt at most, and no waiting program of c_min tokens fits into it | ``_restore`` |
| a pause has a cap | ``max_pause_s``, ``_restore`` |

The released code (github.com/ThunderAgent-org/ThunderAgent, scheduler/router.py and backend/state.py, read 2026-11)
differs: no λ, the whole capacity (``lambda_max = lambda_min = 1``); Δt 5 s, cap 1,800 s (our defaults as well);
acting tokens weigh 1, without decay (``decay_base=1``); 100 tokens more for each active program
(``buffer_tokens=100``); the emptiest worker instead of the best-fitting one; new programs before those that were
paused while acting.

Why λ matters: the engine evicts by age alone, and what ended or paused programs left behind is younger than the
contexts of programs that act. With λ = 1 there is no room for it, so programs that were never paused are evicted.
The paper names no values; ours are those that give the hit rates measured of the released code, 0.95 and, with the
decay on, 0.82 (simulated 8×H100, 560,000 KV tokens, 99 coding agents, recorded trace):

| λmax, λmin | decay off: steps/min, hit rate | decay on: steps/min, hit rate |
| --- | --- | --- |
| 1, 1 | 139, 0.79 | 80, 0.22 |
| 0.95, 0.9 | 174, 0.94 | |
| 0.9, 0.85 | 176, 0.95 | 155, 0.82 |
| 0.8, 0.75 | | 174, 0.91 |
| 0.7, 0.65 | | 175, 0.95 |

That the released code, which knows no λ, measures like this is not explained by its rules, but perhaps by its counts:
it guesses tokens from characters, and counting too many acts like a smaller λ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from thunderctl.core.ledger import WorkerLedger
from thunderctl.core.policies.base import Decision, Pause, Place
from thunderctl.core.program import Phase, Program, Status

if TYPE_CHECKING:
    from thunderctl.core.scheduler import Scheduler


@dataclass(slots=True)
class Paper:
    """ThunderAgent's rule.

    ``delta_t_s``: seconds between checks. ``lambda_max``: share of the capacity above which a worker thrashes.
    ``lambda_min``: share up to which programs are restored. ``decay_base``: x of f(t) = x^−t; 1 switches the decay
    off, as the released code does by default. ``buffer_tokens``: what each active program counts beyond its context,
    for the answer under way. ``max_pause_s``: a call held for longer is admitted whatever the
    capacity says.
    """

    name: ClassVar[str] = "paper"
    delta_t_s: float = 5.0
    lambda_max: float = 0.9
    lambda_min: float = 0.85
    decay_base: float = 2.0
    buffer_tokens: int = 0
    max_pause_s: float = 1800.0
    _paused: dict[str, Program] = field(default_factory=dict, init=False)
    _fresh: dict[str, None] = field(default_factory=dict, init=False)
    _next_tick: float = field(default=-math.inf, init=False)

    def __post_init__(self) -> None:
        if self.delta_t_s <= 0 or self.decay_base < 1 or not 0 < self.lambda_min <= self.lambda_max:
            raise ValueError("policy 'paper' wants delta_t_s > 0, decay_base ≥ 1 and 0 < lambda_min ≤ lambda_max")
        if self.buffer_tokens < 0 or self.max_pause_s <= 0:
            raise ValueError("policy 'paper' wants buffer_tokens of 0 or more and max_pause_s above 0")

    def half_life(self, worker: WorkerLedger) -> float:
        return math.inf if self.decay_base == 1 else math.log(2) / math.log(self.decay_base)

    def noticed(self, program: Program, now: float) -> None:
        if program.status is Status.PAUSED:
            if program.id not in self._paused and program.origin is None:
                self._fresh[program.id] = None
            self._paused[program.id] = program
        else:
            self._paused.pop(program.id, None)
            self._fresh.pop(program.id, None)

    def rank(self, program: Program, now: float) -> float:
        return program.tokens

    def decide(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        yield from self._place_newcomers(scheduler, now)
        if now < self._next_tick:
            return
        self._next_tick = now + self.delta_t_s
        for worker in scheduler.live_workers:
            yield from self._relieve(scheduler, worker, now)
        yield from self._restore(scheduler, now)

    def _place_newcomers(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        """A new program starts at once where there is room, provided that nobody waits before it."""
        for name in list(self._fresh):
            del self._fresh[name]
            program = self._paused[name]
            if any(other.paused_since is not None for other in self._paused.values() if other is not program):
                continue
            roomy = [w for w in scheduler.live_workers if self._room(w, now) >= self._need(program)]
            if roomy:
                yield Place(name, max(roomy, key=lambda w: self._room(w, now)).name, "room on arrival")

    def _room(self, worker: WorkerLedger, now: float) -> float:
        return self.lambda_min * worker.capacity - self._used(worker, now)

    def _used(self, worker: WorkerLedger, now: float) -> float:
        return worker.used(now) + self.buffer_tokens * len(worker.entries)

    def _need(self, program: Program) -> int:
        return program.tokens + self.buffer_tokens

    def _relieve(self, scheduler: Scheduler, worker: WorkerLedger, now: float) -> Iterator[Decision]:
        limit = self.lambda_max * worker.capacity
        excess = self._used(worker, now) - limit
        if excess <= 0:
            return
        victims = sorted(
            (e.phase is Phase.REASONING, e.tokens, name)
            for name, e in worker.entries.items()
            if not scheduler.programs[name].pause_when_rested
        )
        # Programs that reason alone on the worker go on: pausing everybody would serve nobody.
        for reasoning, _tokens, name in victims[:-1]:
            if excess <= 0:
                return
            excess -= worker.faded_use_of(name, now) + self.buffer_tokens
            yield Pause(name, "thrashing: shortest reasoning" if reasoning else "thrashing: shortest acting")

    def _restore(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        workers = scheduler.live_workers
        if not workers:
            return
        room = {w.name: self._room(w, now) for w in workers}
        waiting = sorted(self._paused.values(), key=lambda p: (p.phase is Phase.ACTING, p.tokens, p.id))
        for program in waiting:
            if program.paused_since is not None and now - program.paused_since >= self.max_pause_s:
                best = max(room, key=lambda name: room[name])
                room[best] -= self._need(program)
                yield Place(program.id, best, "held for the longest time allowed", forced=True)
        chosen: list[Program] = []
        free = sum(r for r in room.values() if r > 0)
        for program in waiting:
            if program.status is Status.PAUSED and 0 < self._need(program) <= free:
                free -= self._need(program)
                chosen.append(program)
        for program in sorted(chosen, key=lambda p: (-p.tokens, p.id)):
            fitting = [name for name, r in room.items() if r >= self._need(program)]
            if fitting:
                best = min(fitting, key=lambda name: (room[name], name))
                room[best] -= self._need(program)
                yield Place(program.id, best, "fits: best fit, shortest first")
        yield from self._serve_the_oversized(scheduler, waiting)

    def _serve_the_oversized(self, scheduler: Scheduler, waiting: list[Program]) -> Iterator[Decision]:
        """An idle worker takes a waiting program that fits nowhere: the engine, not we, says if it is too long."""
        for worker in scheduler.live_workers:
            if worker.reasoning_programs:
                continue
            for program in waiting:
                if program.status is Status.PAUSED and program.phase is Phase.REASONING:
                    if program.tokens > self.lambda_min * worker.capacity:
                        yield Place(program.id, worker.name, "larger than any worker", forced=True)
                    break

    def next_check(self, scheduler: Scheduler, now: float) -> float | None:
        return self._next_tick if scheduler.programs else None
