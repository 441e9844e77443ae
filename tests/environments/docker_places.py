"""A Docker back-end without a manager around it, for tests of what the back-end alone promises."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from thunderctl import paths
from thunderctl.environments.backend import Wanted
from thunderctl.environments.docker import DockerBackend, connect
from thunderctl.environments.images import BASE, Images
from thunderctl.environments.lease import Lease
from thunderctl.environments.network import find_network
from thunderctl.environments.spec import EnvironmentSpec, ExecResult, Limits

KEEPERS = ["/sbin/docker-init -- sleep infinity", "sleep infinity"]


class Place:
    """One environment of a back-end."""

    def __init__(self, backend: DockerBackend, lease: Lease, wanted: Wanted) -> None:
        self.backend, self.lease, self.wanted = backend, lease, wanted
        self.container = lease.place or ""

    async def execute(self, command: str, timeout_s: float = 60.0) -> ExecResult:
        return await self.backend.exec(self.lease, self.wanted, command, timeout_s, {})


class Places:
    """Makes environments, and takes them back at the end."""

    def __init__(self, node: str = "n1") -> None:
        self.backend = DockerBackend(paths.owner(), node)
        self.client = connect()
        self._leases: list[Lease] = []

    async def make(self, limits: Limits | None = None, image: str = BASE, **spec: Any) -> Place:
        name, now = secrets.token_hex(8), time.time()
        asked = EnvironmentSpec(image=image, **spec)
        wanted = Wanted(asked, limits or Limits(), asked.network or "none", image)
        lease = Lease(name, "p", "r", "docker", "preparing", None, image, now, now, 0)
        self._leases.append(lease)
        made = await self.backend.prepare(lease, wanted)
        return Place(self.backend, dataclasses.replace(lease, place=made.place, state="ready"), wanted)

    def processes(self, place: Place) -> list[str]:
        """What runs in the container. Who is dead already has a few seconds to be collected by its init process."""
        for _ in range(100):
            rows = self.client.api.top(place.container, ps_args="-eo pid,args")["Processes"]
            found = sorted(row[-1] for row in rows)
            if not any("<defunct>" in line for line in found):
                break
            time.sleep(0.05)
        return found

    async def close(self) -> None:
        for lease in self._leases:
            await self.backend.reclaim(lease)
        await self.backend.close()
        left = self.client.containers.list(all=True, filters={"label": f"thunderctl.owner={paths.owner()}"})
        network = find_network(self.client)
        self.client.close()
        assert (left, network) == ([], None)


@pytest.fixture
def base_image(home: Path) -> Iterator[str]:
    with contextlib.closing(connect()) as client:
        Images(client).ensure(BASE)
    yield BASE


@pytest.fixture
async def places(base_image: str) -> AsyncIterator[Places]:
    made = Places()
    assert await made.backend.available() is None
    yield made
    await made.close()
