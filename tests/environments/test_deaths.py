"""Containers that end by themselves are told of, once each, whatever the engine does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.environments.docker_places import Place, Places, base_image, places
from tests.environments.fake_engine import FakeEngine
from thunderctl.environments import deaths
from thunderctl.environments.backend import Death
from thunderctl.environments.images import BASE
from thunderctl.environments.spec import Limits
from thunderctl.errors import EnvironmentFailure

__all__ = ["base_image", "places"]  # fixtures


class Watch:
    def __init__(self, places: Places) -> None:
        self.told: list[Death] = []
        self._task = asyncio.create_task(places.backend.watch(self.told.append))

    async def hears_of(self, count: int) -> list[tuple[str, str]]:
        async with asyncio.timeout(30):
            while len(self.told) < count:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)  # it would hear of more
        return [(each.place, each.why) for each in self.told]

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@pytest.fixture
async def fake_places(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Places, FakeEngine]]:
    monkeypatch.setattr(deaths, "FIRST_PAUSE_S", 0.02)
    fake = FakeEngine(tmp_path)
    fake.add_image(BASE)
    fake.start()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{fake.socket}")
    made = Places()
    assert await made.backend.available() is None
    yield made, fake
    if not fake.answers:
        fake.start()
    await made.close()
    fake.close()


async def test_after_the_engine_was_away_everything_is_looked_at_once(fake_places: tuple[Places, FakeEngine]) -> None:
    places, fake = fake_places
    died, removed, reclaimed = [await places.make() for _ in range(3)]
    watch = Watch(places)
    async with asyncio.timeout(10):
        while not fake.calls["events"]:
            await asyncio.sleep(0.01)
    fake.stop(live_restore=True)
    fake.containers[died.container].end(255)
    del fake.containers[removed.container]
    with pytest.raises(EnvironmentFailure):
        await places.backend.reclaim(reclaimed.lease)
    fake.containers[reclaimed.container].end(137)
    await asyncio.sleep(0.1)
    fake.start()
    assert sorted(await watch.hears_of(2)) == sorted(
        [
            (died.container, "its container ended: the engine was restarted, code 255"),
            (removed.container, "its container ended: somebody removed it"),
        ]
    )
    await watch.close()


async def test_a_watch_that_begins_late_tells_of_what_died_before(fake_places: tuple[Places, FakeEngine]) -> None:
    places, fake = fake_places
    place, lives = await places.make(), await places.make()
    fake.containers[place.container].end(137)
    watch = Watch(places)
    assert await watch.hears_of(1) == [(place.container, "its container ended: killed from outside, code 137")]
    assert watch.told[0].lease == place.lease.id
    assert (await lives.execute("echo one")).output == "one\n"
    await watch.close()


@pytest.mark.docker
async def test_who_dies_is_told_of_at_once_with_the_reason_and_who_is_reclaimed_is_not(places: Places) -> None:
    killed, stopped, full, reclaimed, lives = [await places.make(Limits(memory_mib=64)) for _ in range(5)]
    watch = Watch(places)
    await asyncio.sleep(0.3)
    await full.execute("python3 -c 'bytearray(1 << 28)'")  # a tool's end, not the container's
    await places.backend.reclaim(reclaimed.lease)
    places.client.api.kill(killed.container)
    places.client.api.stop(stopped.container)
    assert await watch.hears_of(2) == [
        (killed.container, "its container ended: killed from outside, code 137"),
        (stopped.container, "its container ended: stopped from outside, code 143"),
    ]
    assert (await lives.execute("echo one")).output == "one\n"
    await watch.close()


@pytest.mark.docker
async def test_a_command_in_a_dead_container_fails_at_once_and_says_why(places: Places) -> None:
    async def why(place: Place) -> str:
        with pytest.raises(EnvironmentFailure) as failure:
            await place.execute("true", timeout_s=1000)
        return failure.value.message

    killed, removed = await places.make(), await places.make()
    places.client.api.kill(killed.container)
    places.client.api.remove_container(removed.container, force=True)
    assert await why(killed) == "the container of this environment is gone (killed from outside, code 137)"
    assert await why(removed) == "the container of this environment is gone (it was removed)"
