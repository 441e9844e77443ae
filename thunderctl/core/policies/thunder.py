"""``thunder``: the paper's idea, decided on events instead of on a tick. The default.

What differs from ``paper``, and why (figures: other people's measurements of ports of the paper's scheduler, repeated
by ``thunderctl compare`` on the bundled workload):

- every event may pause or restore; nobody waits for a tick;
- an acting program's tokens fade with the *break-even residence time* (KV capacity ÷ prefill rate): keeping c tokens
  for T seconds costs c·T token·seconds, computing them again stops the whole pool for c ÷ rate seconds;
- a held program goes back to the worker that caches it, until it has waited ``origin_wait_s``;
- programs in the midst of an answer are never marked for pause; if the reasoning programs alone overflow, the call
  that just arrived is held instead;
- the queue is shortest-first with linear ageing, so the order of two programs never changes while they wait and a
  heap with fixed keys suffices;
- whoever is placed brings room for ``growth_steps`` further steps, for itself and for everybody there, from the
  observed growth: without it a burst of young programs is let in whole, outgrows the worker together, and each pause
  that follows costs a recomputation (24 agents on ``laptop-pressure`` at 61,440 tokens, 14
  steps each: 66 pauses and a hit rate of 0.68 without it, 15 and 0.86 with it).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from thunderctl.core.ledger import LazyHeap, WorkerLedger
from thunderctl.core.policies.base import Decision, Pause, Place
from thunderctl.core.program import Phase, Program, Status

if TYPE_CHECKING:
    from thunderctl.core.scheduler import Scheduler

UNKNOWN_RATE_HALF_LIFE_S = 10.0
"""Half-life while the prefill rate is not known (told: 10 s beat 1 s by 10%)."""


@dataclass(slots=True)
class Thunder:
    """Event-driven program scheduling.

    ``half_life_s``: 0 derives it from each worker (capacity ÷ prefill rate, in seconds). ``origin_wait_s``: seconds
    a held program waits for its own worker before it takes any. ``ageing_s``: seconds of waiting that outweigh a
    context as large as the whole capacity. ``growth_steps``: steps of growth for which room is kept when a program is
    placed. ``fill``: share of the capacity that programs may use. ``max_pause_s``: a
    call held for longer is admitted whatever the capacity says.
    """

    name: ClassVar[str] = "thunder"
    half_life_s: float = 0.0
    origin_wait_s: float = 8.0
    ageing_s: float = 300.0
    growth_steps: float = 8.0
    fill: float = 1.0
    max_pause_s: float = 1800.0
    _acting: dict[str, LazyHeap[int]] = field(default_factory=dict, init=False)
    _acts_on: dict[str, str] = field(default_factory=dict, init=False)
    _home: dict[str, LazyHeap[float]] = field(default_factory=dict, init=False)
    _home_of: dict[str, str] = field(default_factory=dict, init=False)
    _open: LazyHeap[float] = field(default_factory=LazyHeap, init=False)
    _patience: LazyHeap[float] = field(default_factory=LazyHeap, init=False)
    _overdue: LazyHeap[float] = field(default_factory=LazyHeap, init=False)
    _look: dict[str, None] = field(default_factory=dict, init=False)
    """Workers whose room or queue changed since their queue's head was last tried."""
    _roomiest: LazyHeap[float] = field(default_factory=LazyHeap, init=False)
    """Workers by the room they had when they were last looked at, largest first."""
    _faded_at: LazyHeap[float] = field(default_factory=LazyHeap, init=False)
    """When fading alone will have made room for the head of a worker's queue."""
    _ageing_tokens_per_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if min(self.half_life_s, self.growth_steps, self.origin_wait_s) < 0:
            raise ValueError("policy 'thunder' wants half_life_s, growth_steps and origin_wait_s of 0 or more")
        if self.ageing_s <= 0 or self.max_pause_s <= 0 or not 0 < self.fill <= 1:
            raise ValueError("policy 'thunder' wants ageing_s and max_pause_s above 0, and 0 < fill ≤ 1")

    def half_life(self, worker: WorkerLedger) -> float:
        self._ageing_tokens_per_s = self._ageing_tokens_per_s or worker.capacity / self.ageing_s
        if self.half_life_s:
            return self.half_life_s
        if not worker.prefill_tokens_per_s:
            return UNKNOWN_RATE_HALF_LIFE_S
        return worker.capacity / worker.prefill_tokens_per_s

    # ------------------------------------------------------------------ orders

    def noticed(self, program: Program, now: float) -> None:
        name = program.id
        acts_on = program.worker if program.status is Status.ACTIVE and program.phase is Phase.ACTING else None
        before = self._acts_on.pop(name, None)
        if before is not None and before != acts_on:
            self._acting[before].remove(name)
        if acts_on is not None:
            self._acts_on[name] = acts_on
            self._acting.setdefault(acts_on, LazyHeap()).put(name, program.tokens)
        self._leave_queue(name)
        if program.status is Status.PAUSED and program.paused_since is not None:
            key = program.tokens + self._ageing_tokens_per_s * program.paused_since
            patient_until = program.paused_since + self.origin_wait_s
            if program.origin is not None and now < patient_until:
                self._home_of[name] = program.origin
                self._home.setdefault(program.origin, LazyHeap()).put(name, key)
                self._look[program.origin] = None
                self._patience.put(name, patient_until)
            else:
                self._open.put(name, key)
            self._overdue.put(name, program.paused_since + self.max_pause_s)

    def _leave_queue(self, name: str) -> None:
        home = self._home_of.pop(name, None)
        if home is not None:
            self._home[home].remove(name)
            self._look[home] = None  # whoever stood behind it may fit
        self._open.remove(name)
        self._patience.remove(name)
        self._overdue.remove(name)

    # ------------------------------------------------------------------ decisions

    def decide(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        for name in list(scheduler.touched):
            worker = scheduler.workers.get(name)
            if worker is not None:
                yield from self._relieve(scheduler, worker, now)
            self._look[name] = None
        while (impatient := self._patience.first()) is not None and impatient[0] <= now:
            self.noticed(scheduler.programs[impatient[1]], now)
        while (due := self._faded_at.first()) is not None and due[0] <= now:
            self._faded_at.remove(due[1])
            self._look[due[1]] = None
        for name in self._look:
            self._rank(scheduler, name, now)
        while (overdue := self._overdue.first()) is not None and overdue[0] <= now:
            emptiest = self._emptiest(scheduler, now)
            if emptiest is None:
                break
            yield Place(overdue[1], emptiest, "held for the longest time allowed", forced=True)
            self._rank(scheduler, emptiest, now)
        yield from self._restore(scheduler, now)

    def _relieve(self, scheduler: Scheduler, worker: WorkerLedger, now: float) -> Iterator[Decision]:
        """Bring ``worker`` back under its capacity: acting programs first, shortest first."""
        limit = self.fill * worker.capacity
        while worker.used(now) > limit:
            if worker.reasoning > limit:
                # Nothing that acts can make room for those that reason: hold whoever came last.
                late = [name for name in scheduler.arriving if self._can_wait(scheduler, worker, name)]
                if not late:
                    return
                yield Pause(late[-1], "the reasoning programs fill the worker")
                continue
            acting = self._acting.get(worker.name)
            victim = acting.first() if acting else None
            if victim is None:
                return
            yield Pause(victim[1], "over capacity: shortest acting")

    def _can_wait(self, scheduler: Scheduler, worker: WorkerLedger, name: str) -> bool:
        program = scheduler.programs[name]
        return program.worker == worker.name and program.in_flight == 0 and worker.reasoning_programs > 1

    def _room(self, scheduler: Scheduler, worker: WorkerLedger, now: float) -> float:
        """Tokens left for a further program; everybody's growth is set aside, unless the engine would idle for it."""
        free = self.fill * worker.capacity - worker.used(now)
        if worker.reasoning_programs == 0:
            return free
        return free - self.growth_steps * scheduler.growth_tokens * (len(worker.entries) + 1)

    def _rank(self, scheduler: Scheduler, name: str, now: float) -> None:
        """Bring the worker's place among all workers up to date."""
        worker = scheduler.workers.get(name)
        if worker is None or worker.draining:
            self._roomiest.remove(name)
            self._faded_at.remove(name)
        else:
            self._roomiest.put(name, -self._room(scheduler, worker, now))

    def _emptiest(self, scheduler: Scheduler, now: float) -> str | None:
        """The worker with the most room; ``None`` if there is none. Amortised O(log workers).

        Keys are as old as the last look at a worker. Since then contexts there can only have faded, so the first one
        is brought up to date; another that faded more comes first as soon as anything happens on it.
        """
        while (first := self._roomiest.first()) is not None:
            name = first[1]
            self._rank(scheduler, name, now)
            if name in self._roomiest:
                return name
        return None

    def _restore(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        """Let in whoever fits: on each worker that changed its own programs, on the emptiest one everybody else."""
        if not self._open and not self._home_of:
            self._look.clear()
            return
        emptiest = self._emptiest(scheduler, now)
        if self._open and emptiest is not None:
            self._look[emptiest] = None
        while self._look:
            name = next(iter(self._look))
            worker = scheduler.workers.get(name)
            head = None
            if worker is not None and not worker.draining:
                head = self._head(worker, take_open=name == emptiest)
            if worker is None or head is None:
                del self._look[name]
                self._faded_at.remove(name)
                continue
            tokens = scheduler.programs[head].tokens
            alone = worker.reasoning_programs == 0 and tokens > self.fill * worker.capacity
            if tokens <= self._room(scheduler, worker, now) or alone:
                reason = "larger than the worker" if alone else "fits: shortest first, aged"
                yield Place(head, name, reason, forced=alone)
                self._rank(scheduler, name, now)
                emptiest = self._emptiest(scheduler, now)
                if self._open and emptiest is not None:
                    self._look[emptiest] = None
            else:
                del self._look[name]
                self._await_fading(scheduler, worker, tokens, now)

    def _head(self, worker: WorkerLedger, *, take_open: bool) -> str | None:
        """Whose turn it is on ``worker``: those who come home, and on the emptiest worker everybody else."""
        home = self._home.get(worker.name)
        heads = [h for h in (home.first() if home else None, self._open.first() if take_open else None) if h]
        return min(heads)[1] if heads else None

    def _await_fading(self, scheduler: Scheduler, worker: WorkerLedger, tokens: int, now: float) -> None:
        """Look again when fading alone has made room for ``tokens``: the moment follows from the sum in closed form."""
        short = tokens - self._room(scheduler, worker, now)
        wait = worker.fading.seconds_until(worker.fading.read(now) - short, now)
        if math.isfinite(wait):
            self._faded_at.put(worker.name, now + max(wait, 0.001))
        else:
            self._faded_at.remove(worker.name)

    def next_check(self, scheduler: Scheduler, now: float) -> float | None:
        firsts = (self._patience.first(), self._overdue.first(), self._faded_at.first())
        return min((first[0] for first in firsts if first), default=None)
