"""Which tool environments to prepare now: pure bookkeeping of who wants one, who has one, and who is next in line.

An environment is wanted long before it is used, but it holds disk from the moment it is prepared. So a program that
runs gets its own at once (it is ready while the model still reads the prompt), and of those that wait only the ones
that will be let in before a preparation could finish, bounded by ``ahead``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from thunderctl.core.ledger import LazyHeap
from thunderctl.core.program import Program, Status

MARGIN = 2.0
"""Preparations begin this many preparation times before the place is expected: gaps between places vary, and a
program that waits for its environment wastes its place, while one prepared early costs only disk."""
FIRST = 8
"""Environments prepared ahead while nobody knows how long one takes and how fast the queue moves."""
WEIGHT = 0.2
"""Weight of the latest figure in the running means."""


class Preparation:
    """Environments of programs, from wanted to ready. ``ahead``: most of them prepared for programs that wait."""

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead
        self.seconds: float | None = None
        """How long a preparation takes, averaged lately; ``None`` before the first one."""
        self._wanted: dict[str, None] = {}
        self._queue: LazyHeap[float] = LazyHeap()
        """Programs that wait, unprepared, by their rank in the policy's queue."""
        self._urgent: dict[str, None] = {}
        """Programs that run, unprepared."""
        self._early: dict[str, None] = {}
        """Programs that wait although theirs was begun."""
        self._begun: dict[str, None] = {}
        self._gap_s: float | None = None
        self._placed_at: float | None = None

    def __contains__(self, program: str) -> bool:
        return program in self._wanted or program in self._begun

    @property
    def pending(self) -> bool:
        """Whether any environment is wanted and not begun."""
        return bool(self._wanted)

    def want(self, program: str) -> None:
        """``program`` will use an environment that nobody has begun to prepare; again, if it wants another one."""
        self._begun.pop(program, None)
        self._early.pop(program, None)
        self._wanted[program] = None

    def noticed(self, program: Program, rank: float) -> None:
        """The state of ``program``, or its ``rank`` in the queue (lower is sooner), changed. O(log programs)."""
        name = program.id
        active = program.status is Status.ACTIVE
        if active:
            self._early.pop(name, None)
        if name not in self._wanted:
            return
        if active:
            self._queue.remove(name)
            self._urgent[name] = None
        elif program.calls:
            self._queue.put(name, rank)

    def placed(self, now: float) -> None:
        """A program that waited was let in: the time between two of these tells how fast the queue moves."""
        if self._placed_at is not None:
            gap = now - self._placed_at
            self._gap_s = gap if self._gap_s is None else self._gap_s + WEIGHT * (gap - self._gap_s)
        self._placed_at = now

    def ready(self, program: str, seconds: float) -> None:
        """It was prepared, which took ``seconds``."""
        if program in self._wanted:  # somebody could not wait
            self._begin(program)
        self.seconds = seconds if self.seconds is None else self.seconds + WEIGHT * (seconds - self.seconds)

    def forget(self, program: str) -> None:
        """The program ended, or its environment failed."""
        self._leave(program)
        self._early.pop(program, None)
        self._begun.pop(program, None)

    def limit(self) -> int:
        """Environments that programs which wait may have now."""
        if self.seconds is None or self._gap_s is None:
            return min(self.ahead, FIRST)
        expected = MARGIN * self.seconds / self._gap_s if self._gap_s > 0 else math.inf
        return min(self.ahead, 1 + math.ceil(min(expected, self.ahead)))

    def due(self) -> Iterator[str]:
        """Programs whose environments are to be prepared now; they count as begun."""
        for name in list(self._urgent):
            self._begin(name)
            yield name
        while self._queue and len(self._early) < self.limit():
            first = self._queue.first()
            if first is None:
                return
            self._begin(first[1])
            self._early[first[1]] = None
            yield first[1]

    def _begin(self, program: str) -> None:
        self._leave(program)
        self._begun[program] = None

    def _leave(self, program: str) -> None:
        self._wanted.pop(program, None)
        self._urgent.pop(program, None)
        self._queue.remove(program)

    def mismatches(self, programs: dict[str, Program]) -> list[str]:
        """What does not fit together, in words; empty if all is well."""
        found = [f"{name}: wanted and begun at once" for name in self._wanted if name in self._begun]
        found += [f"{name}: its environment is due and was not ordered" for name in self._urgent]
        for name in self._early:
            program = programs.get(name)
            if program is not None and program.status is Status.ACTIVE:
                found.append(f"{name}: runs, and counts as prepared ahead of need")
        for name, program in programs.items():
            if name in self._wanted and program.status is Status.ACTIVE:
                found.append(f"{name}: runs, and nobody prepares its environment")
        return found
