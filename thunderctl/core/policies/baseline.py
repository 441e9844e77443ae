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

ROUTES = ("session", "least-loaded", "round-robin")


@dataclass(slots=True)
class Baseline:
    """Forward at once.

    ``route``: ``session`` keeps a program on the worker it was first sent to (the one with the fewest programs
    then); ``least-loaded`` sends each call to the worker with the fewest programs reasoning; ``round-robin`` deals
    calls out in turn. The last two are what request-level balancers in front of vLLM do.
    """

    name: ClassVar[str] = "baseline"
    route: str = "session"
    _waiting: dict[str, None] = field(default_factory=dict, init=False)
    _turn: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.route not in ROUTES:
            raise ValueError(f"option 'route' of policy 'baseline' must be one of {', '.join(ROUTES)}")

    def half_life(self, worker: WorkerLedger) -> float:
        return math.inf

    def noticed(self, program: Program, now: float) -> None:
        if program.status is Status.PAUSED and program.phase is Phase.REASONING:
            self._waiting[program.id] = None
        else:
            self._waiting.pop(program.id, None)

    def decide(self, scheduler: Scheduler, now: float) -> Iterator[Decision]:
        if not scheduler.live_workers:
            return
        returning = list(scheduler.arriving) if self.route != "session" else []
        for program in list(self._waiting):
            yield Place(program, self._choose(scheduler), "forwarded at once")
        for program in returning:
            if scheduler.programs[program].in_flight == 0:
                yield Place(program, self._choose(scheduler), f"routed {self.route}")

    def _choose(self, scheduler: Scheduler) -> str:
        workers = scheduler.live_workers
        if self.route == "round-robin":
            self._turn += 1
            return workers[(self._turn - 1) % len(workers)].name
        if self.route == "least-loaded":
            return min(workers, key=lambda w: w.reasoning_programs).name
        return min(workers, key=lambda w: len(w.entries)).name

    def next_check(self, scheduler: Scheduler, now: float) -> float | None:
        return None
