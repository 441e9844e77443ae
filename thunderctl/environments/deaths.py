"""Containers that end without being told to: noticed at once, through one stream of events for all of a node.

An event may be missed while the engine is away, so after each reconnection everything is looked at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from thunderctl.environments.backend import Death, OnDeath
from thunderctl.environments.container import how_it_ended
from thunderctl.environments.engine import ContainerGone, EngineConnection
from thunderctl.errors import EnvironmentFailure

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
"""Between two attempts to reach an engine that went away."""
_OOM_WITHIN_S = 2
"""A tool that runs out of memory is an event of its container, too: only right before its end it is the reason."""


class Deaths:
    """Which containers of this node should be alive, and who is told of those that are not."""

    def __init__(self, engine: EngineConnection, owner: str, node: str) -> None:
        self._engine = engine
        self._labels = [f"thunderctl.owner={owner}", f"thunderctl.node={node}"]
        self._held: dict[str, str] = {}
        self._over: set[str] = set()
        """Leases that we end ourselves, and those whose death was told."""
        self._no_memory: dict[str, int] = {}

    def born(self, lease: str, container: str) -> None:
        self._held[lease] = container

    def over(self, lease: str) -> None:
        """From now on the end of its container is no news."""
        self._held.pop(lease, None)
        self._over.add(lease)

    async def watch(self, on_death: OnDeath) -> None:
        """Tell of each death, once, until cancelled."""
        pause, away = FIRST_PAUSE_S, False
        filters = {"type": ["container"], "event": ["die", "oom"], "label": self._labels}
        while True:
            with contextlib.suppress(EnvironmentFailure):
                async with contextlib.aclosing(self._engine.events(filters)) as events:
                    async for event in events:
                        if event is None:
                            await self._look(on_death, away)
                            pause, away = FIRST_PAUSE_S, True
                        else:
                            self._happened(event, on_death)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _look(self, on_death: OnDeath, away: bool) -> None:
        """At all containers. ``away``: the engine was gone for a while."""
        held = dict(self._held)
        listed = await self._engine.containers({"label": [*self._labels, "thunderctl.lease"]})
        there = {str(each["Labels"]["thunderctl.lease"]): each for each in listed}
        for lease, each in there.items():
            if each["State"] in ("exited", "dead") and lease not in self._over:
                with contextlib.suppress(ContainerGone):
                    state = await self._engine.state(each["Id"])
                    self._tell(on_death, lease, each["Id"], how_it_ended(state, engine_left=away))
        for lease, container in held.items():
            if lease not in there and lease in self._held:
                self._tell(on_death, lease, container, "somebody removed it")

    def _happened(self, event: Mapping[str, Any], on_death: OnDeath) -> None:
        container, told = str(event["Actor"]["ID"]), event["Actor"].get("Attributes") or {}
        at = int(event.get("time") or 0)
        if event.get("Action") == "oom":
            self._no_memory[container] = at
        elif event.get("Action") == "die":
            memory = at - self._no_memory.pop(container, -_OOM_WITHIN_S - 1 + at) <= _OOM_WITHIN_S
            state = {"ExitCode": int(told.get("exitCode") or 0), "OOMKilled": memory}
            self._tell(on_death, str(told.get("thunderctl.lease")), container, how_it_ended(state))

    def _tell(self, on_death: OnDeath, lease: str, container: str, why: str) -> None:
        if lease not in self._over:
            self.over(lease)
            on_death(Death(lease, container, f"its container ended: {why}"))
