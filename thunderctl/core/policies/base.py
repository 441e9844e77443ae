"""What a policy is: which program goes where, who is paused, who comes next, and when to look again. No more.

A policy keeps whatever order it needs (heaps) through ``noticed``; sums it reads from the workers' ledgers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from thunderctl.core.ledger import WorkerLedger
from thunderctl.core.program import Program

if TYPE_CHECKING:
    from thunderctl.core.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Place:
    """Let a paused program use ``worker`` (or move an active one that has no call in flight)."""

    program: str
    worker: str
    reason: str
    forced: bool = False
    """Although it does not fit; counted."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Take a program's capacity away: now, or at the end of its calls in flight."""

    program: str
    reason: str


Decision = Place | Pause


class Policy(Protocol):
    """The decisions, nothing else. Deterministic: same events, same decisions."""

    name: ClassVar[str]

    def half_life(self, worker: WorkerLedger) -> float:
        """Seconds after which an acting program's tokens count half on ``worker``; ``math.inf``: never."""

    def noticed(self, program: Program, now: float) -> None:
        """Status, phase, tokens or origin of ``program`` changed. O(log programs)."""

    def rank(self, program: Program, now: float) -> float:
        """Where a program that waits stands in the queue, lower is sooner: its environment is prepared by it. O(1)."""

    def decide(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        """Decisions after an event; each is carried out before the next one is asked for."""

    def next_check(self, scheduler: Scheduler, now: float) -> float | None:
        """When to be asked again at the latest, if no event comes before."""
