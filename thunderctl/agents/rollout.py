"""How an agent's run is told: one rollout each, with how it ended, and the daemon learns that the program is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

from thunderctl.agents.client import DaemonClient
from thunderctl.errors import ThunderError


class CutOff(Exception):
    """The run ends: no further step begins."""


class Ending(Protocol):
    """What every rollout has. Times in seconds since the run began."""

    agent: str
    program: str
    instance_id: str
    status: str
    """``running`` until it says how it ended."""
    error: str | None
    image_missing: bool
    """It failed because its task's own image could not be had: that says nothing about the others."""
    index: int
    """Which of the run's rollouts it is, from 0."""
    arrived: float | None
    """Open loop: when its agent came, whether or not there was a place for it; ``started`` less this is its wait."""
    started: float
    ended: float
    steps: int

    def as_dict(self) -> dict[str, Any]:
        """As it is stored."""


@dataclass(slots=True)
class Rollout:
    """One agent's work on one task from start to end, as it is stored. Times in seconds since the run began."""

    agent: str
    program: str
    instance_id: str
    kind: str
    """``live`` or ``replay``."""
    status: str = "running"
    """``submitted``, ``step limit``, ``context full`` (token mode), ``format errors``, ``trajectory ended``,
    ``failed``, or ``cut off`` by the run's end."""
    error: str | None = None
    image_missing: bool = False
    index: int = 0
    arrived: float | None = None
    started: float = 0.0
    ended: float = 0.0
    prepare_s: float = 0.0
    """How long preparing its environment took."""
    environment_wait_s: float = 0.0
    """How much of that the agent had to wait for; the rest passed while it waited for a place or the model answered."""
    steps: int = 0
    submission: str = ""
    """What it handed in: a patch, an answer, a program."""
    resolved: bool | None = None
    """Whether that is right; ``None`` if it was not judged."""
    parts: dict[str, bool | float] = field(default_factory=dict)
    """What the judgement is made of: tests, checks, scores."""
    drifted: int = 0
    """Steps of a replay whose tool did not return what it returned when it was recorded."""
    models: dict[str, dict[str, float]] = field(default_factory=dict)
    """Where a workload uses several models: each one's calls, tokens and cost."""
    group: str | None = None
    """The group of samples that it belongs to; they share their first prompt, and the scheduler keeps them together."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Rollout:
        """As it was stored."""
        return cls(**{each.name: record[each.name] for each in fields(cls) if each.name in record})


async def run_to_its_end(
    client: DaemonClient, rollout: Ending, clock: Callable[[], float], work: Callable[[], Awaitable[str]]
) -> None:
    """Carry out ``work``, which returns the status it ended with; what fails is told by the rollout, not raised."""
    rollout.started = clock()
    try:
        rollout.status = await work()
    except CutOff:
        rollout.status = "cut off"
    except asyncio.CancelledError:
        rollout.status = "cut off"
        raise
    except ThunderError as failure:
        rollout.status, rollout.error = "failed", failure.message
    finally:
        rollout.ended = clock()
        # However this ends, Ctrl-C included, the daemon learns that the program is over.
        await asyncio.shield(_release(client, rollout))


async def _release(client: DaemonClient, rollout: Ending) -> None:
    try:
        await client.release(rollout.program)
    except ThunderError as failure:
        rollout.error = rollout.error or f"not released: {failure.message}"
