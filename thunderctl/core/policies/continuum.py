"""``continuum``: a time to live for each tool, and programs first come, first served (arXiv 2511.02230).

| rule of the paper | here |
| --- | --- |
| a context stays pinned while a tool runs, for the τ that maximises P(T ≤ τ)·benefit − cost(τ) | ``_pin`` |
| T: the durations of that tool so far; at first, something that needs no data | ``core/tools.py`` |
| benefit: the prefill that a hit saves, and the wait in the queue that it saves | ``_pin`` |
| when τ has passed, the context may be evicted | ``decide`` |
| when memory is short, pinned contexts are given up, the latest program's first | ``_make_room`` |
| the queue is ordered by when the *program* arrived, not the call | ``noticed`` |

Taken from the paper's abstract and from descriptions of it; its code patches vLLM's own scheduler, which we leave as
it is: giving a context up means that the program counts no more and that its next call waits for its turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from thunderctl.core.ledger import Acting, LazyHeap, WorkerLedger
from thunderctl.core.policies.base import Decision, Pause, Place
from thunderctl.core.program import Program, Status

if TYPE_CHECKING:
    from thunderctl.core.scheduler import Scheduler

WAIT_WEIGHT = 0.05
"""Weight of the latest wait in the running mean of waits."""
UNKNOWN_PREFILL_S = 10.0
"""Worth of a hit while a worker's prefill rate is not known, in seconds of keeping its context."""


@dataclass(slots=True)
class Continuum:
    """``max_pause_s``: a call held for longer is admitted whatever the capacity says."""

    name: ClassVar[str] = "continuum"
    max_pause_s: float = 1800.0
    _queue: LazyHeap[float] = field(default_factory=LazyHeap, init=False)
    _overdue: LazyHeap[float] = field(default_factory=LazyHeap, init=False)
    _rested: dict[str, Program] = field(default_factory=dict, init=False)
    _pinned_until: LazyHeap[float] = field(default_factory=LazyHeap, init=False)
    _pinned: Acting = field(default_factory=lambda: Acting(LazyHeap), init=False)
    """The latest program first."""
    _wait_s: float = field(default=0.0, init=False)
    """What a call without a pin has lately waited for its admission."""

    def __post_init__(self) -> None:
        if self.max_pause_s <= 0:
            raise ValueError("policy 'continuum' wants max_pause_s above 0")

    def half_life(self, worker: WorkerLedger) -> float:
        return math.inf

    def noticed(self, program: Program, now: float) -> None:
        name = program.id
        if self._pinned.noticed(program, -program.arrived):
            self._rested[name] = program
        else:
            self._pinned_until.remove(name)
            self._rested.pop(name, None)
        if program.status is Status.PAUSED and program.paused_since is not None:
            self._queue.put(name, program.arrived)
            self._overdue.put(name, program.paused_since + self.max_pause_s)
        else:
            self._queue.remove(name)
            self._overdue.remove(name)

    def rank(self, program: Program, now: float) -> float:
        return program.arrived

    def decide(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        for program in self._rested.values():
            self._pin(scheduler, program)
        self._rested.clear()
        while self._queue and (first := self._pinned_until.first()) is not None and first[0] <= now:
            yield Pause(first[1], "its time to live has passed")
        for name in list(scheduler.touched):
            worker = scheduler.workers.get(name)
            if worker is not None:
                yield from self._make_room(worker, 0, now)
        yield from self._serve(scheduler, now)

    def _pin(self, scheduler: Scheduler, program: Program) -> None:
        worker = scheduler.workers.get(program.worker or "")
        if worker is None:
            return
        rate = worker.prefill_tokens_per_s
        worth_s = (worker.capacity / rate if rate else UNKNOWN_PREFILL_S) + round(self._wait_s)
        ttl = worth_s if program.tool_ended else scheduler.tools.keep_for(program.tool, worth_s)
        self._pinned_until.put(program.id, program.since + ttl)

    def _make_room(self, worker: WorkerLedger, tokens: int, now: float) -> Iterator[Decision]:
        """Give pinned contexts up until ``tokens`` more fit, or none is left."""
        while worker.used(now) + tokens > worker.capacity:
            victim = self._pinned.first(worker.name)
            if victim is None:
                return
            yield Pause(victim, "memory is short: the latest program's pin")

    def _serve(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        """Admit in the order of the programs' arrival; whoever does not fit is waited for."""
        workers = scheduler.live_workers
        while workers and (head := self._queue.first()) is not None:
            program = scheduler.programs[head[1]]
            waited = now - (program.paused_since or now)
            room = {w.name: w.capacity - w.used(now) for w in workers}
            best = max(room, key=lambda name: (room[name] >= program.tokens and name == program.origin, room[name]))
            late = self._overdue.first()
            if program.tokens <= room[best]:
                yield Place(program.id, best, "first come, first served")
            elif late is not None and late[0] <= now:
                yield Place(late[1], best, "held for the longest time allowed", forced=True)
            elif (idle := next((w for w in workers if not w.reasoning_programs), None)) is not None:
                yield from self._make_room(idle, program.tokens, now)
                fits = program.tokens <= idle.capacity - idle.used(now)
                yield Place(program.id, idle.name, "nobody else uses the worker", forced=not fits)
            else:
                return
            self._wait_s += WAIT_WEIGHT * (waited - self._wait_s)

    def next_check(self, scheduler: Scheduler, now: float) -> float | None:
        firsts = (self._overdue.first(), self._pinned_until.first() if self._queue else None)
        return min((first[0] for first in firsts if first), default=None)
