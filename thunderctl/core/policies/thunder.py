"""``thunder``: the paper's idea, decided on events instead of on a tick. The default.

A program that waits is let in where its context fits. One that runs keeps its place, with two exceptions: its tool
outlasts what keeping the context is worth while others wait, or the worker is over its capacity. Below saturation
nobody waits, and nothing of this happens.

The rules, and what each is worth in steps/min (simulated 8×H100 with GLM-4.6, 560,000 KV tokens a worker, 900 to
1,800 s, mean of 2 or 3 seeds, tried one at a time while the others changed too: differences below 3% say nothing):

- *tool times are learnt*, by name where it is told, and a context is kept only as long as that pays
  (``core/tools.py``). A recompute stalls those that reason, not those that act, so a hit is worth ``STALLED`` of
  C ÷ prefill rate: at 0.5, 0.75 and 1 of it, 150, 151 and 149 with long-tailed tools, 202, 201 and 199 at 5×, and on a
  worker of 100,000 tokens, where a freed part is seldom used whole, 72, 79 and 79;
- a program that *rewrites its prompt*, or is cut at its context's limit, finds nothing again: its context goes at once.
  Routing agents: 74 instead of 72; the oracle, which knows it one call earlier, 88 instead of 79;
- over capacity, the context that has been idle longest goes, as the engine itself would have it;
- ``fill``: the cache also holds what ended or paused programs left behind, and evicts by age alone. With all of the
  capacity promised, programs that were never paused are evicted: at 5×, 180 instead of 194. At 0.94 -2% to +3%, by
  load; at 0.85 as much as 8% less;
- room for ``growth_steps`` further steps of everybody, so that who is let in need not be paused at once: at 3×, 195
  with 0.4, 189 with 1.5, 185 with three; with tools of half a minute 39 with none, 36 with three;
- *shared once*: a prefix that every newcomer finds cached, and what a group finds beyond it (``WorkerLedger``). Groups
  of 8 on two workers: 328 instead of 310;
- *parallel calls* each count, except samples of one prompt, and so do the contexts that they leave behind
  (``Program.tokens``). Four sub-agents in each program: 35; with one call counted for each program 13 (paper: 13
  too), with each call, but only the last context while a tool runs, 19. Four samples of each answer: 89; each counted
  in full 76;
- the queue is shortest-first, because small contexts make more steps in the same memory, with three brakes on
  unfairness. Newcomers below ``newcomers`` of a usual context are equal, since all of them grow: the load ``newcomers``
  of the experiment. Waiting counts a little: at 5×, 1% of the capacity for 300 s makes 161, for 900 s 189, for 3,000 s
  197. And nobody waits longer than ``max_pause_s``;
- a held program goes back to the worker that caches it until it has waited ``origin_wait_s``; the first calls of a
  group go where the group is;
- *whoever a group waits for* comes first: when most samples of a task have ended (``waited_for``), the others are
  ranked smaller than they are (``stragglers``), and paused only if nobody else is there to be paused. A group costs
  the time that its ended samples wait, so nothing is done before. A batch of 36 groups of 8 on two workers, contexts
  three times as long: blocking 935 s in the mean and 2,062 s at worst instead of 1,528 and 3,558 (paper: 2,545 and
  5,470); from half of the samples on 514 and 1,031, from the first one on about 250 and 560, but the shorter the wait
  for the last, the more large contexts run at any time: ``groups of 8`` 200 without the rule, 199 from three quarters
  on, 194 from 0.6 and 192 from a half on, 174 from the first. ``thunderctl bench rollouts`` repeats it;
- programs in the midst of an answer are never marked for pause; if the reasoning programs alone overflow, the call
  that just arrived is held instead.

Tried and left out, all within the noise or worse: an exact account of what the engine's eviction order still holds;
ranking by each program's own growth so far; a lower rank for contexts that are probably still cached (5×: 193 instead
of 205); the worth of a hit by who reasons at the moment; pausing the largest instead of the longest idle; members of
groups that have begun before newcomers of others (144 instead of 170 with long contexts), or the oldest group first
(134).

By ``thunderctl bench policies --seeds 3 --duration 900`` on the recorded coding trace (380 programs), one load after
another in one sitting. ``released`` is the paper's rule without λ and decay, the oracle the better of two settings
(``oracle.py``), ± half the 95% interval; the last three columns are thunder's ratios, to paper's best and the oracle's.
A ratio's own interval, seed by seed, is ±2% to ±20%:

| load | agents | baseline | paper | no decay | released | thunder | oracle | ÷ baseline | ÷ paper | ÷ oracle |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 0.5× on 1 | 16 | 125 | 125 | 125 | 125 | 125 ±39 | 125 | 1.00 | 1.00 | 1.00 |
| 1× on 1 | 33 | 158 | 175 | 176 | 177 | 183 ±23 | 182 | 1.16 | 1.03 | 1.01 |
| 2× on 1 | 66 | 51 | 158 | 181 | 149 | 197 ±2 | 205 | 3.87 | 1.09 | 0.96 |
| 3× on 1 | 99 | 50 | 155 | 176 | 137 | 198 ±13 | 210 | 3.94 | 1.13 | 0.95 |
| 5× on 1 | 164 | 48 | 174 | 180 | 140 | 209 ±21 | 230 | 4.31 | 1.16 | 0.91 |
| 1× on 2 | 66 | 286 | 334 | 359 | 335 | 363 ±43 | 363 | 1.27 | 1.01 | 1.00 |
| 2× on 2 | 131 | 108 | 303 | 359 | 285 | 389 ±31 | 414 | 3.60 | 1.08 | 0.94 |
| 3× on 2 | 197 | 98 | 331 | 381 | 314 | 425 ±45 | 453 | 4.31 | 1.11 | 0.94 |
| 5× on 2 | 329 | 97 | 357 | 377 | 311 | 429 ±31 | 467 | 4.43 | 1.14 | 0.92 |
| 1× on 4 | 131 | 593 | 647 | 709 | 665 | 723 ±23 | 719 | 1.22 | 1.02 | 1.01 |
| 2× on 4 | 263 | 202 | 615 | 734 | 582 | 790 ±20 | 818 | 3.90 | 1.08 | 0.97 |
| 3× on 4 | 394 | 199 | 648 | 746 | 590 | 823 ±47 | 877 | 4.14 | 1.10 | 0.94 |
| short tools | 99 | 53 | 244 | 238 | 88 | 244 ±51 | 263 | 4.63 | 1.00 | 0.93 |
| short tools, 2 | 197 | 105 | 444 | 443 | 170 | 474 ±45 | 517 | 4.52 | 1.07 | 0.92 |
| long tails | 99 | 45 | 130 | 86 | 102 | 144 ±21 | 153 | 3.20 | 1.11 | 0.94 |
| long tails, 2 | 197 | 103 | 271 | 158 | 196 | 294 ±10 | 307 | 2.84 | 1.08 | 0.95 |
| shared 50% | 85 | 39 | 116 | 92 | 101 | 152 ±21 | 162 | 3.88 | 1.32 | 0.94 |
| shared 90% | 259 | 147 | 320 | 251 | 270 | 650 ±24 | 680 | 4.43 | 2.03 | 0.96 |
| best of 4 | 94 | 39 | 82 | 82 | 63 | 89 ±32 | 92 | 2.29 | 1.08 | 0.97 |
| best of 4, 2 | 188 | 73 | 164 | 162 | 119 | 168 ±24 | 181 | 2.29 | 1.03 | 0.93 |
| sub-agents | 25 | 13 | 29 | 32 | 31 | 35 ±5 | 35 | 2.68 | 1.08 | 1.01 |
| sub-agents, 2 | 49 | 25 | 57 | 66 | 66 | 65 ±3 | 67 | 2.55 | 0.98 | 0.98 |
| groups of 8 | 79 | 46 | 168 | 156 | 161 | 176 ±4 | 187 | 3.84 | 1.04 | 0.94 |
| groups of 8, 2 | 159 | 88 | 324 | 317 | 329 | 357 ±23 | 380 | 4.05 | 1.09 | 0.94 |
| burst | 99 | 126 | 217 | 228 | 155 | 249 ±20 | 264 | 1.98 | 1.09 | 0.94 |
| newcomers | 64 | 61 | 77 | 78 | 75 | 85 ±6 | 92 | 1.39 | 1.09 | 0.92 |
| routing | 170 | 43 | 82 | 60 | 63 | 90 ±8 | 100 | 2.13 | 1.11 | 0.91 |
| routing, 2 | 339 | 88 | 167 | 111 | 129 | 184 ±22 | 204 | 2.09 | 1.10 | 0.90 |
| science | 150 | 25 | 41 | 26 | 30 | 40 ±2 | 45 | 1.64 | 0.98 | 0.90 |
| science, 2 | 300 | 48 | 81 | 56 | 61 | 80 ±4 | 90 | 1.65 | 0.98 | 0.89 |

Where it lags: against paper's tuned λ it is level where the engine's memory bandwidth is the limit (science: any
share of the memory from 0.7 up gives the same), and where few, huge programs fill a worker (sub-agents). The oracle's
lead is knowing which programs end soon.
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

UNKNOWN_WORTH_S = 10.0
"""Break-even time while a worker's prefill rate is not known (told: a half-life of 10 s beat 1 s by 10%)."""
STALLED = 0.75
"""Share of a worker's tokens that a recompute stalls: those of programs that reason. Those that act lose nothing."""
MOST_GROUPS = 4096
"""Groups that are remembered."""
REKEYED = 8
"""Members of a group are ranked anew when one for so many that are at work has ended since."""


@dataclass(slots=True)
class _Group:
    """What is remembered of the samples of one task."""

    worker: str | None = None
    """The one on which a member was placed last."""
    members: dict[str, Program] = field(default_factory=dict)
    """Those that have not ended."""
    ended: int = 0
    """Members that ended after a step or more."""
    ranked: int = 0
    """How many of these there were when its members were ranked last."""

    @property
    def waiting(self) -> float:
        """Share of its members that have ended, and wait for the others."""
        return self.ended / (self.ended + len(self.members)) if self.ended else 0.0


@dataclass(slots=True)
class Thunder:
    """Event-driven program scheduling.

    ``fill``: share of the capacity that programs may use. ``growth_steps``: steps of growth for which room is kept
    when a program is placed. ``origin_wait_s``: seconds a held program waits for its own worker before it takes any.
    ``ageing_s``: seconds of waiting that weigh as much as a context of one percent of the capacity. ``newcomers``:
    share of a usual context up to which newcomers are equal. ``waited_for``: share of a group's samples that have ended
    from which on the others are waited for. ``stragglers``: share of the capacity by which these are ranked smaller
    than they are, times the share that has ended; 0: groups are nothing special. ``max_pause_s``: a call held for
    longer is admitted whatever the capacity says.
    """

    name: ClassVar[str] = "thunder"
    fill: float = 0.9
    growth_steps: float = 0.5
    origin_wait_s: float = 8.0
    ageing_s: float = 3000.0
    newcomers: float = 0.5
    stragglers: float = 0.3
    waited_for: float = 0.75
    max_pause_s: float = 1800.0
    _acting: Acting = field(default_factory=lambda: Acting(Line), init=False)
    """The longest idle first."""
    _spared: Acting = field(default_factory=lambda: Acting(LazyHeap), init=False)
    """Those of them whose group waits for them, in the same order."""
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
    _groups: dict[str, _Group] = field(default_factory=dict, init=False)
    """The one that was placed last comes last."""
    _look: dict[str, None] = field(default_factory=dict, init=False)
    """Workers whose room or queue changed since their queue's head was last tried."""
    _roomiest: LazyHeap[float] = field(default_factory=LazyHeap, init=False)
    """Workers by the room they had when they were last looked at, largest first."""
    _tried: tuple[str, tuple[float, str] | None] = field(default=("", None), init=False)
    """The emptiest worker, and who of those that may go anywhere did not fit there."""
    _ageing_tokens_per_s: float = field(default=0.0, init=False)
    _newcomer_tokens: float = field(default=0.0, init=False)
    _straggler_tokens: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if min(self.growth_steps, self.origin_wait_s, self.newcomers, self.stragglers) < 0:
            raise ValueError(
                "policy 'thunder' wants growth_steps, origin_wait_s, newcomers and stragglers of 0 or more"
            )
        if not 0 <= self.waited_for <= 1:
            raise ValueError("policy 'thunder' wants waited_for between 0 and 1")
        if self.ageing_s <= 0 or self.max_pause_s <= 0 or not 0 < self.fill <= 1:
            raise ValueError("policy 'thunder' wants ageing_s and max_pause_s above 0, and 0 < fill ≤ 1")

    def half_life(self, worker: WorkerLedger) -> float:
        self._ageing_tokens_per_s = self._ageing_tokens_per_s or 0.01 * worker.capacity / self.ageing_s
        self._straggler_tokens = self._straggler_tokens or self.stragglers * worker.capacity
        return math.inf

    # ------------------------------------------------------------------ orders

    def noticed(self, program: Program, now: float) -> None:
        name = program.id
        acting, ended = self._acting, False
        if program.group is not None:
            ended = self._count(program, program.group)
            other = self._spared
            if self._waited(program):
                acting, other = other, acting
            other.remove(name)
        if acting.noticed(program, program.since):
            self._rested[name] = None
        else:
            self._rested.pop(name, None)
            self._keep_until.remove(name)
        if program.status is Status.PAUSED and program.paused_since is not None:
            self._enqueue(program, program.paused_since, now)
        elif name in self._overdue:
            self._leave_home(name)
            self._open.remove(name)
            self._overdue.remove(name)
        if ended and program.group is not None:
            self._rank_members(self._groups[program.group], now)

    def _count(self, program: Program, name: str) -> bool:
        """Remember the program as a member of its group ``name``; says whether it was one and has ended."""
        group = self._groups.get(name)
        if program.status is Status.TERMINATED:
            if group is None or group.members.pop(program.id, None) is None or not program.steps:
                return False
            group.ended += 1
            return True
        if group is None:
            group = self._groups[name] = _Group()
            if len(self._groups) > MOST_GROUPS:
                del self._groups[next(iter(self._groups))]
        group.members[program.id] = program
        if program.status is Status.ACTIVE and program.worker is not None:
            group.worker = program.worker
            self._groups[name] = self._groups.pop(name)
        return False

    def _rank_members(self, group: _Group, now: float) -> None:
        """A member has ended: those who are at work are waited for, the more the fewer they are.

        Not at each end, so that a group of any size costs O(log programs) for each of its members' ends.
        """
        if not self.stragglers or REKEYED * (group.ended - group.ranked) < len(group.members):
            return
        group.ranked = group.ended
        for member in list(group.members.values()):
            self.noticed(member, now)

    def _waited(self, program: Program) -> float:
        """Share of its group that waits for it; 0 while it is small, and without a group."""
        if program.group is None or not self.stragglers:
            return 0.0
        group = self._groups.get(program.group)
        share = group.waiting if group is not None else 0.0
        return share if share >= self.waited_for else 0.0

    def _enqueue(self, program: Program, since: float, now: float) -> None:
        name = program.id
        newcomer = program.steps == 0 and program.origin is None
        key = self.rank(program, now)
        home = program.origin
        if newcomer and program.group is not None:
            home = self._groups[program.group].worker
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
        key = self._size(program, newcomer) + self._ageing_tokens_per_s * since
        return key if program.group is None else key - self._straggler_tokens * self._waited(program)

    # ------------------------------------------------------------------ decisions

    def decide(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        self._newcomer_tokens = self.newcomers * scheduler.context_tokens
        for name in scheduler.touched:
            self._look[name] = None
        for name in list(scheduler.touched):
            worker = scheduler.workers.get(name)
            if worker is not None and self._overflows(worker, now):
                yield from self._relieve(scheduler, worker, now)
        if not self._overdue:
            return  # nobody waits
        while (impatient := self._patience.first()) is not None and impatient[0] <= now:
            self.noticed(scheduler.programs[impatient[1]], now)
        rooms = {name: self._rank(scheduler, name, now) for name in self._look}
        while (overdue := self._overdue.first()) is not None and overdue[0] <= now:
            emptiest = self._emptiest(scheduler)
            if emptiest is None:
                break
            yield Place(overdue[1], emptiest, "held for the longest time allowed", forced=True)
            rooms[emptiest] = self._rank(scheduler, emptiest, now)
        yield from self._restore(scheduler, now, rooms)
        if self._overdue:  # only for somebody whom there is no room for does anybody give up a place
            yield from self._give_up(scheduler, now)
            yield from self._restore(scheduler, now, {name: self._rank(scheduler, name, now) for name in self._look})

    def _relieve(self, scheduler: Scheduler, worker: WorkerLedger, now: float) -> Iterator[Decision]:
        """Bring ``worker`` back under its capacity: acting programs first, the longest idle first."""
        while self._overflows(worker, now):
            if worker.reasoning - worker.shared_twice > self.fill * worker.capacity:
                # Nothing that acts can make room for those that reason: hold whoever came last.
                late = [name for name in scheduler.arriving if self._can_wait(scheduler, worker, name)]
                if not late:
                    return
                last = [name for name in late if not self._waited(scheduler.programs[name])] or late
                yield Pause(last[-1], "the reasoning programs fill the worker")
                continue
            victim = self._acting.first(worker.name) or self._spared.first(worker.name)
            if victim is None:
                return
            yield Pause(victim, "over capacity: longest idle")

    def _overflows(self, worker: WorkerLedger, now: float) -> bool:
        return worker.used(now) - worker.shared_twice > self.fill * worker.capacity

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
            self._look[scheduler.programs[idle[1]].worker or ""] = None
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

    def _rank(self, scheduler: Scheduler, name: str, now: float) -> float:
        """Bring the worker's place among all workers up to date; the room that it has."""
        worker = scheduler.workers.get(name)
        if worker is None or worker.draining:
            self._roomiest.remove(name)
            return 0.0
        room = self._room(scheduler, worker, now)
        self._roomiest.put(name, -room)
        return room

    def _emptiest(self, scheduler: Scheduler) -> str | None:
        """The worker with the most room when it was last looked at; ``None`` if there is none."""
        while (first := self._roomiest.first()) is not None:
            worker = scheduler.workers.get(first[1])
            if worker is not None and not worker.draining:
                return first[1]
            self._roomiest.remove(first[1])
        return None

    def _restore(self, scheduler: Scheduler, now: float, rooms: dict[str, float]) -> Iterator[Decision]:
        """Let in whoever fits: on each worker that changed its own programs, on the emptiest one everybody else.

        ``rooms``: of the workers that changed, as they are now.
        """
        emptiest = self._look_at_emptiest(scheduler)
        while self._look:
            name = next(iter(self._look))
            worker = scheduler.workers.get(name)
            head = None
            if worker is not None and not worker.draining:
                head = self._head(worker, take_open=name == emptiest)
            if worker is None or head is None:
                del self._look[name]
                continue
            if name not in rooms:
                rooms[name] = self._room(scheduler, worker, now)
            program = scheduler.programs[head]
            tokens = program.tokens - worker.found_by(program.group)
            alone = worker.reasoning_programs == 0 and tokens > self.fill * worker.capacity
            if tokens <= rooms[name] or alone:
                reason = "larger than the worker" if alone else "fits: shortest first, aged"
                yield Place(head, name, reason, forced=alone)
                rooms[name] = self._rank(scheduler, name, now)
                emptiest = self._look_at_emptiest(scheduler)
            else:
                del self._look[name]
                if name == emptiest:
                    self._tried = (name, self._open.first())

    def _look_at_emptiest(self, scheduler: Scheduler) -> str | None:
        """See to it that it is tried for whoever may go anywhere, unless that was tried and nothing has changed."""
        emptiest = self._emptiest(scheduler)
        if emptiest is not None and self._open and self._tried != (emptiest, self._open.first()):
            self._look[emptiest] = None
        return emptiest

    def _head(self, worker: WorkerLedger, *, take_open: bool) -> str | None:
        """Whose turn it is on ``worker``: those who come home, and on the emptiest worker everybody else."""
        home = self._home.get(worker.name)
        head = home.first() if home is not None else None
        stranger = self._open.first() if take_open else None
        if head is None or (stranger is not None and stranger < head):
            head = stranger
        return head[1] if head is not None else None

    def next_check(self, scheduler: Scheduler, now: float) -> float | None:
        if not self._overdue:
            return None
        firsts = (self._patience.first(), self._overdue.first(), self._keep_until.first())
        return min((first[0] for first in firsts if first), default=None)
