"""How every agent's run ends: its rollout says how, and the daemon learns that the program is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from thunderctl.agents.client import DaemonClient
from thunderctl.errors import ThunderError


class Ending(Protocol):
    """The part of a rollout that its end fills in. Times in seconds since the run began."""

    program: str
    status: str
    error: str | None
    started: float
    ended: float


async def run_to_its_end(
    client: DaemonClient, rollout: Ending, clock: Callable[[], float], work: Callable[[], Awaitable[str]]
) -> None:
    """Carry out ``work``, which returns the status it ended with; what fails is told by the rollout, not raised."""
    rollout.started = clock()
    try:
        rollout.status = await work()
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
