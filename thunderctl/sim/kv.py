"""A worker's KV blocks and its prefix cache, by vLLM's rules (v1/core/block_pool.py, v1/core/kv_cache_manager.py).

Only full blocks are cached. Free blocks stand in one queue: blank ones in front, cached ones behind in the order in
which they were freed. A request's blocks are freed from its tail, so the tail is evicted first. Blocks in use are in
no queue. What vLLM does block by block is done here run by run: a call costs O(pieces of its context), whatever the
context's length.

A context is a path through *segments*: blocks that some contexts have in common, e.g. a shared prefix, then one
program's own. Because tails go first, the cached blocks of a segment always begin at its start, and those in use
come before those that wait for eviction: two numbers and a short list describe it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

END = 1 << 62
"""Where the last segment of a path stops: nowhere."""


@dataclass(slots=True, eq=False)
class Run:
    """Neighbouring blocks of a segment that stand in the queue together; ``stop - 1`` is the first to go."""

    segment: Segment
    start: int
    stop: int


@dataclass(slots=True, eq=False)
class Twin:
    """A second block with the content of an existing one.

    It comes about when a whole prompt is cached: vLLM computes the last token again to have its logits, and with it
    the whole last block, into a block of its own.
    """

    run: Run
    """The block; it stands in the queue once nobody holds it."""
    lease: Lease | None
    """Who holds it."""


@dataclass(slots=True, eq=False)
class Segment:
    """Blocks ``start`` and on of every context that passes through; indices count from the context's first block."""

    start: int
    used: int = field(init=False)
    """Blocks below are held by some request."""
    cached: int = field(init=False)
    """Blocks below are found by a lookup; those from ``used`` on stand in the queue."""
    holds: dict[int, int] = field(default_factory=dict)
    """How many requests hold the blocks below an index."""
    idle: list[Run] = field(default_factory=list)
    """The runs from ``used`` to ``cached``, the outermost first: it was freed first as well."""
    twins: list[Twin] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.used = self.cached = self.start

    def hold(self, reach: int) -> None:
        """One more request holds the blocks below ``reach``; none of those beyond ``used`` is in the queue."""
        self.holds[reach] = self.holds.get(reach, 0) + 1
        self.used = max(self.used, reach)
        self.cached = max(self.cached, reach)

    def let_go(self, reach: int) -> None:
        """Inverse of :meth:`hold`; what nobody holds any more is still to be put in the queue."""
        self.holds[reach] -= 1
        if not self.holds[reach]:
            del self.holds[reach]
            self.used = max(self.holds, default=self.start)


Path = tuple[tuple[Segment, int], ...]
"""Segments and the index at which the context leaves each: the next one starts there."""


@dataclass(slots=True, eq=False)
class Lease:
    """The blocks that one running request holds."""

    path: Path
    full: int
    """Blocks from the context's first one that are full and cached."""
    twin: Twin | None = None


class BlockPool:
    """All blocks of one worker. ``blocks`` counts as vLLM's ``num_gpu_blocks``: one of them is never used."""

    def __init__(self, blocks: int) -> None:
        self.usable = blocks - 1  # vLLM keeps one null block
        self.blank = self.usable
        """Free blocks that cache nothing."""
        self.evicted = 0
        """Cached blocks that were given to somebody else, since the beginning."""
        self._idle = 0
        self._queue: OrderedDict[Run, None] = OrderedDict()

    @property
    def free(self) -> int:
        """Blocks that can be taken: blank ones and those that may be evicted."""
        return self.blank + self._idle

    @property
    def resident(self) -> int:
        """Blocks that hold something: in use or cached."""
        return self.usable - self.blank

    # ------------------------------------------------------------------ a request comes in

    def lookup(self, path: Path, limit: int) -> int:
        """Blocks from the context's first one that are cached, at most ``limit``."""
        found = 0
        for segment, stop in path:
            found = min(segment.cached, stop, limit)
            if found < stop:
                break
        return found

    def price(self, path: Path, hit: int, total: int) -> int:
        """By how many blocks ``free`` shrinks if a context of ``total`` blocks is let in, ``hit`` of them cached."""
        idle = sum(max(0, min(stop, hit) - segment.used) for segment, stop in path)
        return total - hit + idle

    def lease(self, path: Path, hit: int) -> Lease:
        """Hold the first ``hit`` blocks of a context, which are cached."""
        for segment, stop in path:
            reach = min(stop, hit)
            if reach <= segment.start:
                continue
            inside = segment.used
            while inside < reach:
                run = segment.idle[-1]
                inside = min(reach, run.stop)
                self._idle -= inside - run.start
                run.start = inside
                if run.start == run.stop:
                    segment.idle.pop()
                    del self._queue[run]
            segment.hold(reach)
        return Lease(path, hit)

    # ------------------------------------------------------------------ it grows

    def take(self, count: int) -> None:
        """Give ``count`` blocks to running requests, evicting what has been idle longest. They must be free."""
        short = count - self.blank
        self.blank = max(0, -short)
        while short > 0:
            short -= self._evict(short)

    def register(self, lease: Lease, full: int) -> None:
        """The first ``full`` blocks of this context are full now: lookups find them."""
        for segment, stop in lease.path:
            start, reach = max(lease.full, segment.start), min(stop, full)
            if start >= reach:
                continue
            if start < segment.cached:
                assert reach == start + 1 == stop, "only the last block of a prompt is computed twice"  # noqa: S101
                lease.twin = Twin(Run(segment, start, reach), lease)
                segment.twins.append(lease.twin)
            else:
                segment.hold(reach)
                if start > segment.start:
                    segment.let_go(start)
        lease.full = max(lease.full, full)

    # ------------------------------------------------------------------ it leaves

    def release(self, lease: Lease, held: int, full: int) -> None:
        """Take back the ``held`` blocks of a context, the first ``full`` of which stay cached until evicted."""
        self.register(lease, full)
        self.blank += held - full
        for segment, stop in reversed(lease.path):
            twin, reach = lease.twin, min(stop, full)
            if twin is not None and twin.run.segment is segment:
                twin.lease = None
                self._enqueue(twin.run)
                reach = twin.run.start
            if reach > segment.start:
                segment.let_go(reach)
                if segment.used < reach:
                    run = Run(segment, segment.used, reach)
                    segment.idle.append(run)
                    self._enqueue(run)

    def _enqueue(self, run: Run) -> None:
        self._queue[run] = None
        self._idle += run.stop - run.start

    # ------------------------------------------------------------------ eviction

    def _evict(self, count: int) -> int:
        """Forget up to ``count`` blocks at the head of the queue; says how many."""
        run = next(iter(self._queue))
        segment = run.segment
        regular = bool(segment.idle) and segment.idle[0] is run
        gone = min(count, run.stop - run.start) if not segment.twins else 1
        run.stop -= gone
        if run.start == run.stop:
            del self._queue[run]
        self._idle -= gone
        self.evicted += gone
        if regular:
            if run.start == run.stop:
                del segment.idle[0]
            segment.cached -= gone
            self._let_twin_stand_in(segment)
        else:
            segment.twins = [twin for twin in segment.twins if twin.run is not run]
        return gone

    @staticmethod
    def _let_twin_stand_in(segment: Segment) -> None:
        """The block at ``cached`` is gone; if it had twins, a lookup finds the oldest of them from now on."""
        index = segment.cached
        twin = next((t for t in segment.twins if t.run.start == index), None)
        if twin is None:
            return
        segment.twins.remove(twin)
        segment.cached = index + 1
        if twin.lease is None:
            segment.idle.insert(0, twin.run)
            return
        twin.lease.twin = None
        segment.hold(index + 1)
        if index > segment.start:
            segment.let_go(index)

    # ------------------------------------------------------------------ invariants

    def check(self, held: Iterable[tuple[Lease, int]]) -> None:
        """Assert that each block is in exactly one place. ``held``: all leases, with the blocks that each occupies."""
        leases = list(held)
        segments = {segment: None for lease, _ in leases for segment, _ in lease.path}
        shared = sum(segment.used - segment.start for segment in segments)
        own = sum(blocks - lease.full for lease, blocks in leases)
        twins = sum(lease.twin is not None for lease, _ in leases)
        idle = sum(run.stop - run.start for run in self._queue)
        assert idle == self._idle and self.blank >= 0, f"{idle} blocks are queued, {self._idle} counted"  # noqa: S101
        lost = self.usable - self.free - shared - own - twins
        assert not lost, f"{lost} blocks are nowhere"  # noqa: S101
        for segment in {**segments, **{run.segment: None for run in self._queue}}:
            inside = segment.used
            for run in reversed(segment.idle):
                assert run.start == inside < run.stop, "idle blocks of a segment adjoin"  # noqa: S101
                inside = run.stop
            assert inside == segment.cached, "what is cached is used or idle"  # noqa: S101
