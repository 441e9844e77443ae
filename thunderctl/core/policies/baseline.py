"""``baseline``: what people run today. No admission control: every call goes to a worker at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from thunderctl.core.ledger import WorkerLedger
from thunderctl.core.policies.base import Decision, Place
from thunderctl.core.program import Phase, Program, Status

if TYPE_CHECKING:
    from thunderctl.core.scheduler import Scheduler

MOST_GROUPS = 4096
"""Groups whose worker is remembered."""
ROUTES = ("session", "least-loaded", "round-robin", "prefix")


@dataclass(slots=True)
class Baseline:
    """Forward at once.

    ``route``: ``session`` keeps a program on the worker it was first sent to (the one with the fewest programs
    then); ``least-loaded`` sends each call to the worker with the fewest programs reasoning; ``round-robin`` deals
    calls out in turn; ``prefix`` sends a call where the longest part of its prompt has been: its own context, else
    its group's first prompt; where nothing has been, to the least loaded. The last three are what request-level
    balancers in front of vLLM do.
    """

    name: ClassVar[str] = "baseline"
    route: str = "session"
    _waiting: dict[str, Program] = field(default_factory=dict, init=False)
    _groups: dict[str, str] = field(default_factory=dict, init=False)
    """The worker that answered a group's members last."""
    _turn: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.route not in ROUTES:
            raise ValueError(f"option 'route' of policy 'baseline' must be one of {', '.join(ROUTES)}")

    def half_life(self, worker: WorkerLedger) -> float:
        return math.inf

    def noticed(self, program: Program, now: float) -> None:
        if program.status is Status.PAUSED and program.phase is Phase.REASONING:
            self._waiting[program.id] = program
        else:
            self._waiting.pop(program.id, None)
            if program.group is not None and program.worker is not None and self.route == "prefix":
                self._groups.pop(program.group, None)
                self._groups[program.group] = program.worker
                if len(self._groups) > MOST_GROUPS:
                    del self._groups[next(iter(self._groups))]

    def rank(self, program: Program, now: float) -> float:
        return program.arrived

    def decide(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        if not scheduler.live_workers:
            return
        returning = list(scheduler.arriving) if self.route in ("least-loaded", "round-robin") else []
        for name, waiting in list(self._waiting.items()):
            yield Place(name, self._known_to(scheduler, waiting) or self._choose(scheduler), "forwarded at once")
        for program in returning:
            if scheduler.programs[program].in_flight == 0:
                yield Place(program, self._choose(scheduler), f"routed {self.route}")

    def _known_to(self, scheduler: Scheduler, program: Program) -> str | None:
        """The worker that most likely caches the start of its prompt; ``None`` if there is none or nobody asks."""
        if self.route != "prefix":
            return None
        places = (program.origin, self._groups.get(program.group) if program.group is not None else None)
        live = {worker.name for worker in scheduler.live_workers}
        return next((place for place in places if place in live), None)

    def _choose(self, scheduler: Scheduler) -> str:
        workers = scheduler.live_workers
        if self.route == "round-robin":
            self._turn += 1
            return workers[(self._turn - 1) % len(workers)].name
        if self.route in ("least-loaded", "prefix"):
            return min(workers, key=lambda w: w.reasoning_programs).name
        return min(workers, key=lambda w: len(w.entries)).name

    def next_check(self, scheduler: Scheduler, now: float) -> float | None:
        return None
