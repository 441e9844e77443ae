"""The same promises, fewer sequences, on a real engine that others may use as well.

Each daemon talks to it through a socket of its own, so that it can be cut off in the middle. What the test makes is
labelled and removed, whatever the sequence did.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import docker
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.environments.promises import Engine, Promises, Thing
from thunderctl.environments.docker import connect
from thunderctl.environments.images import BASE, Images

pytestmark = pytest.mark.docker

T = TypeVar("T")
VOLUME_IMAGE = "thunderctl-test/promises:1"
MARK = "test=promises"


class Lines:
    """Unix sockets that lead to the engine and can be cut, each for itself. What was asked is done all the same."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._servers: dict[Path, asyncio.AbstractServer] = {}
        self._open: dict[Path, set[asyncio.StreamWriter]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lines", daemon=True)
        self._thread.start()

    def lay(self, path: Path) -> str:
        self._do(self._lay(path))
        return f"unix://{path}"

    def cut(self, path: Path) -> None:
        self._do(self._cut(path))

    def close(self) -> None:
        for path in list(self._servers):
            self.cut(path)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _lay(self, path: Path) -> None:
        self._open[path] = set()
        self._servers[path] = await asyncio.start_unix_server(lambda r, w: self._talk(path, r, w), path)

    async def _cut(self, path: Path) -> None:
        server = self._servers.pop(path, None)
        if server is not None:
            server.close()
            for writer in self._open.pop(path):
                writer.transport.abort()
            path.unlink(missing_ok=True)

    async def _talk(self, path: Path, reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
        there_reading, there_writing = await asyncio.open_unix_connection(self._engine)
        if path not in self._open:
            writing.transport.abort()
            there_writing.transport.abort()
            return
        self._open[path] |= {writing, there_writing}
        await asyncio.gather(_pass_on(reading, there_writing), _pass_on(there_reading, writing))
        for each in (writing, there_writing):
            each.close()
            self._open.get(path, set()).discard(each)


async def _pass_on(reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reading.read(65536):
            writing.write(data)
            await writing.drain()
        if writing.can_write_eof():
            writing.write_eof()


class RealEngine:
    """The engine that ``DOCKER_HOST`` names, as the machine wants it."""

    image = BASE
    volume_image = VOLUME_IMAGE

    def __init__(self, machine: Promises) -> None:
        self.hand = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        self.anonymous: set[str] = set()
        """Volumes that came with a container of ours or of a stranger. They bear no label."""
        self._machine = machine
        self._lines = Lines(self.hand.removeprefix("unix://"))

    def line(self, path: Path) -> str:
        return self._lines.lay(path)

    def cut(self, path: Path) -> None:
        self._lines.cut(path)

    def things(self, client: docker.DockerClient) -> list[Thing]:
        """What is ours or a stranger's of this test; the engine may have a lot besides."""
        api, found = client.api, {}
        for label in (MARK, f"thunderctl.owner={self._machine.owner}"):
            wanted = {"label": [label]}
            for each in api.containers(all=True, filters=wanted):
                mounts = [mount["Name"] for mount in each["Mounts"] if mount.get("Name")]
                found[each["Id"]] = Thing(
                    "container", each["Id"], each["Names"][0].lstrip("/"), _sorted(each["Labels"]),
                    frozenset([each["HostConfig"]["NetworkMode"], *mounts]), each["State"] == "running",
                )  # fmt: skip
                self.anonymous |= set(mounts)
            for each in api.volumes(filters=wanted)["Volumes"] or []:
                found[each["Name"]] = Thing("volume", each["Name"], each["Name"], _sorted(each["Labels"] or {}))
            for each in api.networks(filters=wanted):
                found[each["Id"]] = Thing("network", each["Id"], each["Name"], _sorted(each["Labels"] or {}))
        if self.anonymous:
            there = {each["Name"] for each in api.volumes()["Volumes"] or []}
            found |= {name: Thing("volume", name, name, ()) for name in self.anonymous & there}
        return list(found.values())

    def settle(self) -> None:
        """The engine works on what a daemon asked that is dead by now, and tells nobody when it is through."""
        before: set[tuple[str, bool]] = set()
        with contextlib.closing(docker.DockerClient(base_url=self.hand)) as client:
            while True:
                time.sleep(1)
                now = {(thing.id, thing.running) for thing in self.things(client)}
                if now == before:
                    return
                before = now

    def close(self) -> None:
        self._lines.close()


def _sorted(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


class PromisesOnARealEngine(Promises):
    happened = Counter()

    def new_engine(self, folder: Path) -> Engine:
        return RealEngine(self)

    def nothing_else_is_left(self) -> None:
        assert set(self.things()) == self.foreign

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            with contextlib.closing(connect()) as client:
                for thing in sorted(self.engine.things(client), key=lambda thing: thing.kind):  # containers first
                    _remove(client, thing)


def _remove(client: docker.DockerClient, thing: Thing) -> None:
    with contextlib.suppress(docker.errors.NotFound):
        if thing.kind == "container":
            client.api.remove_container(thing.id, force=True, v=True)
        elif thing.kind == "volume":
            client.api.remove_volume(thing.id)
        else:
            client.api.remove_network(thing.id)


def test_the_promises_hold_on_a_real_engine() -> None:
    with contextlib.closing(connect()) as client:
        Images(client).ensure(BASE)
        file = io.BytesIO(f"FROM {BASE}\nVOLUME /data\n".encode())
        client.images.build(fileobj=file, tag=VOLUME_IMAGE, rm=True)
        try:
            run_state_machine_as_test(
                PromisesOnARealEngine,
                settings=settings(
                    max_examples=int(os.environ.get("THUNDERCTL_TEST_SEQUENCES") or 10),
                    stateful_step_count=20,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                    phases=[Phase.generate],
                ),
            )
        finally:
            client.images.remove(VOLUME_IMAGE, force=True)
    happened = PromisesOnARealEngine.happened
    assert all(happened[each] for each in ("ready", "command", "collected: container")), happened
