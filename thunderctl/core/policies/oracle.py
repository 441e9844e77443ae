"""``oracle``: ``thunder`` told the future, for the simulator. What it makes is what knowing is worth: a ceiling.

It knows how long each tool will run and whether the next prompt continues this one, so it keeps a context exactly if
that is worth it; and how much each context grows, and when it ends, so it ranks the queue by what programs will need
instead of by what they need now. It is in no registry: on a live node nobody knows.

A ceiling for rules of this kind, not a proven bound: no setting is the best under every load, so the experiment takes
the better of two. Most of what it gains comes from the queue (science: 42 steps/min by knowing growth alone, 40 by
knowing tools alone, 44 by both), and in traces drawn step by step nothing that has been seen tells of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from thunderctl.core.ledger import WorkerLedger
from thunderctl.core.policies.thunder import Thunder
from thunderctl.core.program import Program

if TYPE_CHECKING:
    from thunderctl.core.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Ahead:
    """One call of a program, before it happens."""

    gap_s: float
    """Seconds from the end of its call to the next call."""
    growth_tokens: int
    """Tokens by which the context is longer then."""
    reused: bool = True
    """The next prompt continues this one."""


@dataclass(slots=True)
class Oracle(Thunder):
    """``future``: the steps of each program in their order. ``horizon``: steps of growth that the queue looks at.
    ``stalled``: share of a worker's tokens that a recompute is taken to stall.
    """

    name: ClassVar[str] = "oracle"
    future: Mapping[str, Sequence[Ahead]] = field(default_factory=dict)
    horizon: int = 10
    stalled: float = 1.0

    def _keep_s(self, scheduler: Scheduler, program: Program, worker: WorkerLedger) -> float:
        rate = worker.prefill_tokens_per_s
        worth_s = self.stalled * worker.capacity / rate if rate else math.inf
        if program.tool_ended or not program.steps:
            return worth_s
        ahead = self.future[program.id][program.steps - 1]
        return math.inf if ahead.gap_s <= worth_s and ahead.reused else 0.0

    def _size(self, program: Program, newcomer: bool) -> float:
        ahead = self.future[program.id][program.steps : program.steps + self.horizon]
        return program.tokens + sum(step.growth_tokens for step in ahead) / 2
