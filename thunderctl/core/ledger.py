"""Token sums of one worker, kept incrementally: an event costs O(1), never a scan.

What is taken out of a sum is exactly what was put in: the ledger remembers each program's entry, so counts that
change between the two cannot leave a residue behind.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from thunderctl.core.cost import CostModel
from thunderctl.core.program import ACTING, ACTIVE, REASONING, Phase, Program

FIRST_HITS = 16
"""Programs whose first calls tell how long the prefix is that all of them share."""


class FadingSum:
    """Σ cᵢ·2^(−(now−tᵢ)/half_life) as one running scalar (f(t) of arXiv 2602.13692, section 4.3, is half_life 1 s).

    ``half_life`` in seconds; ``math.inf`` means that nothing fades. A clock that steps back is read as standing still.
    """

    __slots__ = ("half_life", "_at", "_value", "_count")

    def __init__(self, half_life: float = math.inf) -> None:
        self.half_life = half_life
        self._value = 0.0
        self._at = 0.0
        self._count = 0

    def _advance(self, now: float) -> None:
        if now > self._at and self.half_life != math.inf:
            if self._value:
                self._value *= 2.0 ** (-(now - self._at) / self.half_life)
            self._at = now

    def weight(self, since: float, now: float) -> float:
        """Share of an entry put in at ``since`` that still counts."""
        if self.half_life == math.inf:
            return 1.0
        return float(2.0 ** (-max(0.0, max(now, self._at) - since) / self.half_life))

    def add(self, tokens: int, since: float, now: float) -> None:
        self._advance(now)
        self._value += tokens * self.weight(since, now)
        self._count += 1

    def remove(self, tokens: int, since: float, now: float) -> None:
        self._advance(now)
        self._count -= 1
        # An empty sum is exactly zero: rounding errors end with the last entry.
        left = self._value - tokens * self.weight(since, now) if self._count else 0.0
        self._value = left if left > 0.0 else 0.0

    def read(self, now: float) -> float:
        if self.half_life != math.inf:
            self._advance(now)
        return self._value

    def seconds_until(self, target: float, now: float) -> float:
        """Seconds until fading alone brings the sum down to ``target``; infinite if it never does."""
        value = self.read(now)
        if value <= target:
            return 0.0
        if target <= 0 or math.isinf(self.half_life):
            return math.inf
        return self.half_life * math.log2(value / target)


@dataclass(slots=True)
class Group:
    """The members of one group on one worker."""

    members: int = 0
    shared: int = 0
    """Leading tokens that they have in common, as the engine's cache shows; 0: not known."""


@dataclass(slots=True)
class Entry:
    """What one ACTIVE program counts for on its worker."""

    tokens: int
    phase: Phase
    since: float
    group: str | None = None


@dataclass(slots=True)
class WorkerLedger:
    """Capacity and use of one worker, all in KV tokens."""

    name: str
    capacity: int
    prefill_tokens_per_s: float
    fading: FadingSum
    draining: bool = False
    reasoning: int = 0
    """Σ tokens of its ACTIVE programs that are REASONING."""
    acting: int = 0
    """Σ tokens of its ACTIVE programs that are ACTING, unfaded."""
    reasoning_programs: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    cost: CostModel = field(default_factory=CostModel)
    shared: int = 0
    """Leading tokens that all programs have in common, as the engine's cache shows."""
    weights: int = 0
    """Version of the weights that computed what it caches."""
    _first_hits: deque[int] = field(default_factory=lambda: deque(maxlen=FIRST_HITS))
    _groups: dict[str, Group] = field(default_factory=dict)
    """Groups that have members here."""
    _further: int = 0
    """Members of groups whose shared part is known, beyond the first of each."""
    _group_twice: int = 0
    """Σ over groups of what is shared, for each member beyond the first."""

    @property
    def shared_twice(self) -> int:
        """What the sums count more than once of the shared prefix, and of what groups share beyond it."""
        if not self.shared and not self._group_twice:
            return 0
        everyone = self.shared * max(0, len(self.entries) - 1)
        return everyone + max(0, self._group_twice - self._further * self.shared)

    def found_by(self, group: str | None) -> int:
        """Leading tokens that one more program, a member of ``group``, has in common with those that are here."""
        known = self._groups.get(group) if group is not None else None
        return max(self.shared if self.entries else 0, known.shared if known else 0)

    def learn_shared(self, cached_tokens: int, group: str | None = None) -> None:
        """The first call of a program found ``cached_tokens`` here that others had brought.

        What every one of the last ``FIRST_HITS`` newcomers found is what all have in common. A single newcomer that
        found nothing takes the assumption back. The most that a member of a group found is what the group shares.
        """
        self._first_hits.append(cached_tokens)
        self.shared = min(self._first_hits) if len(self._first_hits) == FIRST_HITS else 0
        known = self._groups.get(group) if group is not None else None
        if known is not None and known.shared < cached_tokens:
            self._count(known, -1)
            known.shared = cached_tokens
            self._count(known, 1)

    def forget_cache(self, weights: int) -> None:
        """What the engine cached is gone, and what programs share is no longer known."""
        self.weights = weights
        self.shared = self._further = self._group_twice = 0
        self._first_hits.clear()
        for group in self._groups.values():
            group.shared = 0

    def _count(self, group: Group, sign: int) -> None:
        """Add what ``group`` counts more than once to the sums, or take it out."""
        if group.shared and group.members > 1:
            self._further += sign * (group.members - 1)
            self._group_twice += sign * (group.members - 1) * group.shared

    def _join(self, name: str, members: int) -> None:
        """``members`` more programs of the group ``name``; negative: fewer."""
        group = self._groups.setdefault(name, Group())
        self._count(group, -1)
        group.members += members
        self._count(group, 1)
        if not group.members:
            del self._groups[name]

    def put(self, program: str, tokens: int, phase: Phase, since: float, now: float, group: str | None = None) -> None:
        """Count ``program`` with these figures, in place of whatever it counted for before."""
        entry = self.entries.get(program)
        if entry is None:
            if group is not None:
                self._join(group, 1)
            self.entries[program] = Entry(tokens, phase, since, group)
        else:
            self._uncount(entry, now)
            entry.tokens, entry.phase, entry.since = tokens, phase, since
        if phase is REASONING:
            self.reasoning += tokens
            self.reasoning_programs += 1
        else:
            self.acting += tokens
            self.fading.add(tokens, since, now)

    def drop(self, program: str, now: float) -> None:
        """Stop counting ``program``; nothing happens if it was not counted."""
        entry = self.entries.pop(program, None)
        if entry is not None:
            self._uncount(entry, now)
            if entry.group is not None:
                self._join(entry.group, -1)

    def _uncount(self, entry: Entry, now: float) -> None:
        """Take the entry's figures out of the sums."""
        if entry.phase is REASONING:
            self.reasoning -= entry.tokens
            self.reasoning_programs -= 1
        else:
            self.acting -= entry.tokens
            self.fading.remove(entry.tokens, entry.since, now)

    def used(self, now: float) -> float:
        """Σ reasoning + Σ acting·f(t): the left side of the paper's thrashing test (section 4.3)."""
        return self.reasoning + self.fading.read(now)

    def faded_use_of(self, program: str, now: float) -> float:
        """What dropping ``program`` would take off :meth:`used`."""
        entry = self.entries[program]
        if entry.phase is REASONING:
            return entry.tokens
        return entry.tokens * self.fading.weight(entry.since, now)

    def mismatches(self, now: float) -> list[str]:
        """Differences between the sums and a fresh count, in words; empty if the ledger is right."""
        reasoning = sum(e.tokens for e in self.entries.values() if e.phase is REASONING)
        acting = [e for e in self.entries.values() if e.phase is ACTING]
        faded = sum(e.tokens * self.fading.weight(e.since, now) for e in acting)
        found = []
        if reasoning != self.reasoning:
            found.append(f"{self.name}: reasoning {self.reasoning}, counted {reasoning}")
        if sum(e.tokens for e in acting) != self.acting:
            found.append(f"{self.name}: acting {self.acting}, counted {sum(e.tokens for e in acting)}")
        if not math.isclose(faded, self.fading.read(now), rel_tol=1e-6, abs_tol=1.0):
            found.append(f"{self.name}: faded {self.fading.read(now)}, counted {faded}")
        if self.reasoning_programs != len(self.entries) - len(acting):
            found.append(f"{self.name}: {self.reasoning_programs} reasoning programs counted wrongly")
        members = Counter(e.group for e in self.entries.values() if e.group is not None)
        if members != {name: group.members for name, group in self._groups.items()}:
            found.append(f"{self.name}: members of groups counted wrongly")
        known = [g for g in self._groups.values() if g.shared]
        twice = (sum(g.members - 1 for g in known), sum((g.members - 1) * g.shared for g in known))
        if twice != (self._further, self._group_twice):
            found.append(f"{self.name}: groups count {self._group_twice} twice, should be {twice[1]}")
        return found


K = TypeVar("K", int, float, tuple[float, int])


class Line(OrderedDict[str, float]):
    """Names in the order of keys that never decrease from one ``put`` to the next, e.g. moments; all in O(1)."""

    __slots__ = ()

    def put(self, name: str, key: float) -> None:
        """Put ``name`` at the end; it keeps its place if it stands there with that key already."""
        if self.get(name) != key:
            self[name] = key
            self.move_to_end(name)

    def remove(self, name: str) -> None:
        self.pop(name, None)

    def first(self) -> tuple[float, str] | None:
        """The smallest key and its name, left in place."""
        for name, key in self.items():
            return key, name
        return None


class Acting:
    """The programs that act on each worker, in an order: ``queue`` makes an empty one."""

    __slots__ = ("_queue", "_lines", "_on")

    def __init__(self, queue: Callable[[], Line | LazyHeap[float]]) -> None:
        self._queue = queue
        self._lines: dict[str, Line | LazyHeap[float]] = {}
        self._on: dict[str, str] = {}

    def noticed(self, program: Program, key: float) -> bool:
        """Bring the place of ``program`` up to date; says whether it acts and holds capacity."""
        name = program.id
        acts = program.status is ACTIVE and program.phase is ACTING
        before, now_on = self._on.get(name), program.worker if acts else None
        if before is not None and before != now_on:
            self._lines[before].remove(name)
            del self._on[name]
        if now_on is None:
            return False
        self._on[name] = now_on
        if now_on not in self._lines:
            self._lines[now_on] = self._queue()
        self._lines[now_on].put(name, key)
        return True

    def remove(self, name: str) -> None:
        """Take a program out: it stands in another order now."""
        worker = self._on.pop(name, None)
        if worker is not None:
            self._lines[worker].remove(name)

    def first(self, worker: str) -> str | None:
        """Whoever acts on ``worker`` and comes first; ``None`` if nobody does."""
        line = self._lines.get(worker)
        head = line.first() if line is not None else None
        return head[1] if head is not None else None


class LazyHeap(Generic[K]):
    """A priority queue of names whose entries can be removed or re-keyed in O(log n).

    Outdated entries stay in the heap until they surface. Equal keys come out in the order they were put in.
    """

    __slots__ = ("_heap", "_live", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[K, int, str]] = []
        self._live: dict[str, int] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, name: str) -> bool:
        return name in self._live

    def put(self, name: str, key: K) -> None:
        live, heap = self._live, self._heap
        self._serial = live[name] = self._serial + 1
        heapq.heappush(heap, (key, self._serial, name))
        if len(heap) > 2 * len(live) + 64:
            self._heap = [item for item in heap if live.get(item[2]) == item[1]]
            heapq.heapify(self._heap)

    def remove(self, name: str) -> None:
        self._live.pop(name, None)

    def first(self) -> tuple[K, str] | None:
        """The smallest key and its name, left in place."""
        heap, live = self._heap, self._live
        while heap:
            key, serial, name = heap[0]
            if live.get(name) == serial:
                return key, name
            heapq.heappop(heap)
        return None
