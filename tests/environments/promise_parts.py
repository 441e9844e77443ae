"""What the state machine of the promises plays with: daemons that can be killed in the middle, and an engine that may
be a fake or a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar
from unittest import mock

import docker

from tests.environments.conftest import dead_node, live_node
from thunderctl.environments.lease import Lease, LeaseLedger
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.profile import ToolEnvironmentSpec

T = TypeVar("T")

HANGS_S = 60.0
"""A call that takes longer hangs: nothing here waits for anything that long."""


@dataclass(frozen=True)
class Thing:
    """Something on the engine, with what tells whose it is."""

    kind: str
    id: str
    name: str
    labels: tuple[tuple[str, str], ...]
    uses: frozenset[str] = field(default=frozenset(), compare=False)
    """Names of its volumes and of its network."""
    running: bool = field(default=True, compare=False)

    def label(self, name: str) -> str:
        return dict(self.labels).get(f"thunderctl.{name}", "")


class Engine(Protocol):
    """What the machine needs of an engine."""

    image: str
    volume_image: str
    """Makes an anonymous volume."""
    hand: str
    """``DOCKER_HOST`` of the strangers; it never goes wrong."""

    def line(self, path: Path) -> str: ...
    def cut(self, path: Path) -> None: ...
    def things(self, client: docker.DockerClient) -> list[Thing]: ...
    def settle(self) -> None:
        """Wait until what was asked of it is done."""
        ...

    def close(self) -> None: ...


class Daemon:
    """One life of a node's manager, on an event loop of its own. A crash stops that loop where it is."""

    def __init__(self, engine: Engine, node: str, line: Path, take_over: bool) -> None:
        self.node = node
        self.leases: set[str] = set()
        """Those that were asked for in this life."""
        self._engine = engine
        self._line = line
        self._loop = asyncio.new_event_loop()
        self._folder = live_node(node)
        self._ledger = LeaseLedger(self._folder / "state.db")
        settings = ToolEnvironmentSpec(backend="docker", image=None, concurrent_creates=2)
        self.manager = EnvironmentManager(settings, self._ledger, self._folder, node, on_event=self._note)
        with using(engine.line(line)):
            try:
                self.do(self.manager.start(take_over=take_over))
            except BaseException:
                self.crash()
                raise

    def _note(self, kind: str, lease: Lease) -> None:
        if kind == "requested":
            self.leases.add(lease.id)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(asyncio.wait_for(work, HANGS_S))

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._loop.create_task(work)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # a crash leaves nobody who looks
        return task

    def go_on_until(self, task: asyncio.Task[Any], reached: Callable[[], bool]) -> None:
        async def watch() -> None:
            while not task.done() and not reached():
                await asyncio.sleep(0.001)

        self.do(watch())

    def crash(self) -> None:
        """As by SIGKILL: its connections break, and nothing of it goes on; its record says that it is dead."""
        self._engine.cut(self._line)
        dead_node(self.node)

    def close(self) -> None:
        self.do(self.manager.close())

    def bury(self) -> None:
        """When all is judged: let what was stopped half-way come to its end."""
        self._engine.cut(self._line)

        async def end() -> None:
            mine = asyncio.current_task()
            left = [task for task in asyncio.all_tasks() if task is not mine]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            with contextlib.suppress(Exception):
                await self.manager.backend.close()

        self._loop.run_until_complete(end())
        self._ledger.close()
        self._loop.close()


@contextlib.contextmanager
def using(docker_host: str) -> Iterator[None]:
    with mock.patch.dict(os.environ, {"DOCKER_HOST": docker_host}):
        yield


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + HANGS_S
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.001)


async def end_of(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
