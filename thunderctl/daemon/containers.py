"""Containers that agents made for themselves (``docker_ids``): collected when their program ends.

Programs that end at the same time are collected together, one batch after the other: two programs that share a
container would else each leave it to the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from docker.errors import DockerException

from thunderctl.daemon.journal import Journal
from thunderctl.environments.docker import connect
from thunderctl.environments.registered import Collected, collect
from thunderctl.errors import EnvironmentFailure

log = logging.getLogger("thunderctl.environments")

Ended = dict[str, list[str]]
"""Program → its containers, in the agent's words."""


class AgentContainers:
    """Those of one node. The journal says which there are; what could not be collected stays in it."""

    def __init__(self, node: str, journal: Journal) -> None:
        self._node = node
        self._journal = journal
        self._ended: Ended = {}
        self._task: asyncio.Task[None] | None = None

    def end(self, program: str) -> None:
        """The program ended: collect what it registered; does not wait for it."""
        containers = [container for _, container in self._journal.containers(program)]
        if not containers:
            return
        self._ended[program] = containers
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._collect_all())

    async def close(self) -> None:
        """Every program ends with its node: collect all that is left, once more what failed before."""
        if self._task is not None:
            await self._task
        for program in dict.fromkeys(program for program, _ in self._journal.containers()):
            self.end(program)
        if self._task is not None:
            await self._task

    async def _collect_all(self) -> None:
        while self._ended:
            batch, self._ended = self._ended, {}
            try:
                done = await asyncio.to_thread(_collect, self._node, batch)
            except (EnvironmentFailure, DockerException, OSError) as error:
                count = sum(map(len, batch.values()))
                log.warning("%d container(s) of agents are left to them: %s", count, error)
                continue
            self._tell(done)
            settled = {*done.removed, *done.gone, *done.left}
            for program, containers in batch.items():
                self._journal.forget_containers(program, settled.intersection(containers))

    def _tell(self, done: Collected) -> None:
        if done.removed:
            log.info("collected %d container(s) of agents: %s", len(done.removed), ", ".join(done.removed))
        for container, why in {**done.left, **done.failed}.items():
            log.warning("the agent's container %s is left alone: %s", container, why)


def _collect(node: str, batch: Mapping[str, list[str]]) -> Collected:
    with contextlib.closing(connect()) as client:
        return collect(client, node, batch)
