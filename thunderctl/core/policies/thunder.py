"""``thunder``: the paper's idea, decided on events instead of on a tick. The default.

A program that waits is let in where its context fits. One that runs keeps its place, with two exceptions: its tool
outlasts what keeping the context is worth while others wait, or the worker is over its capacity. Below saturation
nobody waits, and nothing of this happens.

What each rule is worth, in steps/min, by ``thunderctl bench policies`` (simulated 8×H100 with GLM-4.6, 560,000 KV
tokens a worker, three times as many agents as fit, 1,800 s, mean of 3 seeds; coding agents unless said otherwise):

- *tool times are learnt*, by name where it is told, and a context is kept only as long as that pays
  (``core/tools.py``): 143 with long-tailed tools, 38 with tools of half a minute; with contexts that fade by a
  half-life of C ÷ prefill rate, all else as here: 126 and 30;
- over capacity, the context that has been idle longest goes, as the engine itself would have it. Fading and the
  paper's shortest first: 175 on one worker, 353 on two; this: 197 and 383;
- ``fill``: the cache also holds what ended or paused programs left behind, and evicts by age alone. With all of the
  capacity promised, programs that were never paused are evicted: 174, and 120 with short tools; at 0.9: 197 and 229;
- room for ``growth_steps`` further steps of everybody, so that who is let in need not be paused at once: 190 with
  none, 197 with 1.5, 168 with eight;
- a prefix that every newcomer finds cached is counted once (``WorkerLedger.shared``): 572 where 90% is shared; the
  paper, which counts it each time, 357;
- the queue is shortest-first, because small contexts make more steps in the same memory, with three brakes on
  unfairness. Newcomers below half a usual context are equal, since all of them grow: of 64 at once with prompts of
  1,400 to 8,000 tokens, size and time to first answer correlate at 0.2 or less, not 0.6, at 0.98 of the throughput.
  Waiting counts a little: 1% of the capacity for 900 s; for 3 s, which is nearly first come, first served: 159. And
  nobody waits longer than ``max_pause_s``;
- a held program goes back to the worker that caches it until it has waited ``origin_wait_s``; the first calls of a
  group go where the group is;
- programs in the midst of an answer are never marked for pause; if the reasoning programs alone overflow, the call
  that just arrived is held instead.

Tried and left out: an exact account of what the engine's eviction order still holds (no better than ``fill``);
ranking by each program's own growth so far (within the noise); half the break-even time (the same).

| load | agents | baseline | paper | paper, no decay | continuum | shadow-price | thunder | oracle |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| half of what fits | 16 | 122 | 122 | 122 | 122 | 122 | 122 | 122 |
| what fits | 33 | 143 | 146 | 162 | 162 | 142 | 177 | 176 |
| 3× | 99 | 51 | 79 | 139 | 118 | 70 | 197 | 196 |
| 5× | 164 | 49 | 84 | 146 | 115 | 77 | 196 | 210 |
| 2×, two workers | 131 | 109 | 154 | 278 | 263 | 130 | 383 | 389 |
| short tools, 3× | 99 | 55 | 80 | 82 | 101 | 76 | 229 | 240 |
| long-tailed tools, 3× | 99 | 48 | 79 | 91 | 80 | 66 | 143 | 154 |
| 90% shared, 10× | 259 | 149 | 357 | 270 | 237 | 392 | 572 | 588 |
| groups of 8, 3×, two workers | 159 | 88 | 223 | 314 | 235 | 134 | 331 | 332 |
| burst, 3× | 99 | 94 | 103 | 147 | 130 | 101 | 216 | 216 |
| routing, 5× | 170 | 44 | 65 | 60 | 38 | 59 | 70 | 76 |
| science, 5× | 150 | 26 | 39 | 29 | 22 | 38 | 38 | 44 |
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from thunderctl.core.ledger import LazyHeap, Line, WorkerLedger
from thunderctl.core.policies.base import Decision, Pause, Place
from thunderctl.core.program import Phase, Program, Status

if TYPE_CHECKING:
    from thunderctl.core.scheduler import Scheduler

UNKNOWN_WORTH_S = 10.0
"""Break-even time while a worker's prefill rate is not known (told: a half-life of 10 s beat 1 s by 10%)."""
STALLED = 0.5
"""Share of a worker's tokens that a recompute stalls: those of programs that reason. Those that act lose nothing."""
MOST_GROUPS = 4096
"""Groups whose worker is remembered."""


@dataclass(slots=True)
class Thunder:
    """Event-driven program scheduling.

    ``fill``: share of the capacity that programs may use. ``growth_steps``: steps of growth for which room is kept
    when a program is placed. ``origin_wait_s``: seconds a held program waits for its own worker before it takes any.
    ``ageing_s``: seconds of waiting that weigh as much as a context of one percent of the capacity. ``max_pause_s``:
    a call held for longer is admitted whatever the capacity says.
    """

    name: ClassVar[str] = "thunder"
    fill: float = 0.9
    growth_steps: float = 0.75
    origin_wait_s: float = 8.0
    ageing_s: float = 3000.0
    max_pause_s: float = 1800.0
    _idle: dict[str, Line] = field(default_factory=dict, init=False)
    """Acting programs of each worker, the longest idle first."""
    _idle_on: dict[str, str] = field(default_factory=dict, init=False)
    _keep_until: LazyHeap[float] = field(default_factory=LazyHeap, init=False)
    """When keeping an acting program's context stops being worth it."""
    _rested: dict[str, None] = field(default_factory=dict, init=False)
    """Acting programs for which that is still to be worked out."""
    _home: dict[str, LazyHeap[float]] = field(default_factory=dict, init=False)
    _home_of: dict[str, str] = field(default_factory=dict, init=False)
    _open: LazyHeap[float] = field(default_factory=LazyHeap, init=False)
    _patience: Line = field(default_factory=Line, init=False)
    _overdue: Line = field(default_factory=Line, init=False)
    """All programs that wait with a call."""
    _groups: dict[str, str] = field(default_factory=dict, init=False)
    """The worker on which a member of a group was placed last."""
    _look: dict[str, None] = field(default_factory=dict, init=False)
    """Workers whose room or queue changed since their queue's head was last tried."""
    _roomiest: LazyHeap[float] = field(default_factory=LazyHeap, init=False)
    """Workers by the room they had when they were last looked at, largest first."""
    _ageing_tokens_per_s: float = field(default=0.0, init=False)
    _newcomer_tokens: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if min(self.growth_steps, self.origin_wait_s) < 0:
            raise ValueError("policy 'thunder' wants growth_steps and origin_wait_s of 0 or more")
        if self.ageing_s <= 0 or self.max_pause_s <= 0 or not 0 < self.fill <= 1:
            raise ValueError("policy 'thunder' wants ageing_s and max_pause_s above 0, and 0 < fill ≤ 1")

    def half_life(self, worker: WorkerLedger) -> float:
        self._ageing_tokens_per_s = self._ageing_tokens_per_s or 0.01 * worker.capacity / self.ageing_s
        return math.inf

    # ------------------------------------------------------------------ orders

    def noticed(self, program: Program, now: float) -> None:
        name = program.id
        active = program.status is Status.ACTIVE
        idle_on = program.worker if active and program.phase is Phase.ACTING else None
        before = self._idle_on.pop(name, None)
        if before is not None and before != idle_on:
            self._idle[before].remove(name)
        if idle_on is not None:
            self._idle_on[name] = idle_on
            self._idle.setdefault(idle_on, Line()).put(name, program.since)
            self._rested[name] = None
        else:
            self._rested.pop(name, None)
            self._keep_until.remove(name)
        if program.group is not None and active and program.worker is not None:
            self._groups.pop(program.group, None)
            self._groups[program.group] = program.worker
            if len(self._groups) > MOST_GROUPS:
                del self._groups[next(iter(self._groups))]
        if program.status is Status.PAUSED and program.paused_since is not None:
            self._enqueue(program, program.paused_since, now)
        elif name in self._overdue:
            self._leave_home(name)
            self._open.remove(name)
            self._overdue.remove(name)

    def _enqueue(self, program: Program, since: float, now: float) -> None:
        name = program.id
        newcomer = program.steps == 0 and program.origin is None
        key = self.rank(program, now)
        home = self._groups.get(program.group) if newcomer and program.group is not None else program.origin
        self._overdue.put(name, since + self.max_pause_s)
        if self._home_of.get(name) != home:
            self._leave_home(name)
        if home is not None and now < since + self.origin_wait_s:
            self._open.remove(name)
            self._home_of[name] = home
            self._home.setdefault(home, LazyHeap()).put(name, key)
            self._look[home] = None
            self._patience.put(name, since + self.origin_wait_s)
        else:
            self._leave_home(name)
            self._open.put(name, key)

    def _size(self, program: Program, newcomer: bool) -> float:
        """Tokens by which it is ranked in the queue."""
        return max(program.tokens, self._newcomer_tokens) if newcomer else program.tokens

    def _leave_home(self, name: str) -> None:
        home = self._home_of.pop(name, None)
        if home is not None:
            self._home[home].remove(name)
            self._patience.remove(name)
            self._look[home] = None  # whoever stood behind it may fit

    def rank(self, program: Program, now: float) -> float:
        newcomer = program.steps == 0 and program.origin is None
        since = now if program.paused_since is None else program.paused_since
        return self._size(program, newcomer) + self._ageing_tokens_per_s * since

    # ------------------------------------------------------------------ decisions

    def decide(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        self._newcomer_tokens = scheduler.context_tokens / 2
        for name in scheduler.touched:
            self._look[name] = None
        for name in list(scheduler.touched):
            worker = scheduler.workers.get(name)
            if worker is not None:
                yield from self._relieve(scheduler, worker, now)
        if not self._overdue:
            return  # nobody waits
        while (impatient := self._patience.first()) is not None and impatient[0] <= now:
            self.noticed(scheduler.programs[impatient[1]], now)
        yield from self._give_up(scheduler, now)
        for name in self._look:
            self._rank(scheduler, name, now)
        while (overdue := self._overdue.first()) is not None and overdue[0] <= now:
            emptiest = self._emptiest(scheduler)
            if emptiest is None:
                break
            yield Place(overdue[1], emptiest, "held for the longest time allowed", forced=True)
            self._rank(scheduler, emptiest, now)
        yield from self._restore(scheduler, now)

    def _relieve(self, scheduler: Scheduler, worker: WorkerLedger, now: float) -> Iterator[Decision]:
        """Bring ``worker`` back under its capacity: acting programs first, the longest idle first."""
        limit = self.fill * worker.capacity
        while worker.used(now) - worker.shared_twice > limit:
            if worker.reasoning - worker.shared_twice > limit:
                # Nothing that acts can make room for those that reason: hold whoever came last.
                late = [name for name in scheduler.arriving if self._can_wait(scheduler, worker, name)]
                if not late:
                    return
                yield Pause(late[-1], "the reasoning programs fill the worker")
                continue
            idle = self._idle.get(worker.name)
            victim = idle.first() if idle else None
            if victim is None:
                return
            yield Pause(victim[1], "over capacity: longest idle")

    def _can_wait(self, scheduler: Scheduler, worker: WorkerLedger, name: str) -> bool:
        program = scheduler.programs[name]
        return program.worker == worker.name and program.in_flight == 0 and worker.reasoning_programs > 1

    def _give_up(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        """Pause programs whose tools outlast what keeping their contexts is worth."""
        for name in self._rested:
            program = scheduler.programs[name]
            worker = scheduler.workers.get(program.worker or "")
            if worker is not None:
                self._keep_until.put(name, program.since + self._keep_s(scheduler, program, worker))
        self._rested.clear()
        while (idle := self._keep_until.first()) is not None and idle[0] <= now:
            yield Pause(idle[1], "its tool outlasts what keeping its context is worth")

    def _keep_s(self, scheduler: Scheduler, program: Program, worker: WorkerLedger) -> float:
        """Seconds, from the program's last sign of life, for which keeping its context pays."""
        if program.rewrites:
            return 0.0
        rate = worker.prefill_tokens_per_s
        worth_s = STALLED * worker.capacity / rate if rate else UNKNOWN_WORTH_S
        return worth_s if program.tool_ended else scheduler.tools.keep_for(program.tool, worth_s)

    def _room(self, scheduler: Scheduler, worker: WorkerLedger, now: float) -> float:
        """Tokens left for a further program; everybody's growth is set aside, unless the engine would idle for it."""
        free = self.fill * worker.capacity - worker.used(now) + worker.shared_twice
        if worker.reasoning_programs == 0:
            return free
        return free - self.growth_steps * scheduler.growth_tokens * (len(worker.entries) + 1)

    def _rank(self, scheduler: Scheduler, name: str, now: float) -> None:
        """Bring the worker's place among all workers up to date."""
        worker = scheduler.workers.get(name)
        if worker is None or worker.draining:
            self._roomiest.remove(name)
        else:
            self._roomiest.put(name, -self._room(scheduler, worker, now))

    def _emptiest(self, scheduler: Scheduler) -> str | None:
        """The worker with the most room when it was last looked at; ``None`` if there is none."""
        while (first := self._roomiest.first()) is not None:
            worker = scheduler.workers.get(first[1])
            if worker is not None and not worker.draining:
                return first[1]
            self._roomiest.remove(first[1])
        return None

    def _restore(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        """Let in whoever fits: on each worker that changed its own programs, on the emptiest one everybody else."""
        emptiest = self._emptiest(scheduler)
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
                continue
            program = scheduler.programs[head]
            tokens = program.tokens - worker.found_by(program.group)
            alone = worker.reasoning_programs == 0 and tokens > self.fill * worker.capacity
            if tokens <= self._room(scheduler, worker, now) or alone:
                reason = "larger than the worker" if alone else "fits: shortest first, aged"
                yield Place(head, name, reason, forced=alone)
                self._rank(scheduler, name, now)
                emptiest = self._emptiest(scheduler)
                if self._open and emptiest is not None:
                    self._look[emptiest] = None
            else:
                del self._look[name]

    def _head(self, worker: WorkerLedger, *, take_open: bool) -> str | None:
        """Whose turn it is on ``worker``: those who come home, and on the emptiest worker everybody else."""
        home = self._home.get(worker.name)
        heads = [h for h in (home.first() if home else None, self._open.first() if take_open else None) if h]
        return min(heads)[1] if heads else None

    def next_check(self, scheduler: Scheduler, now: float) -> float | None:
        if not self._overdue:
            return None
        firsts = (self._patience.first(), self._overdue.first(), self._keep_until.first())
        return min((first[0] for first in firsts if first), default=None)
