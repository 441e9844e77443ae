"""Several commands in one container: each ends alone and as a whole, and the last one leaves nothing."""

from __future__ import annotations

import asyncio

import pytest

from tests.environments.docker_places import KEEPERS, Place, Places, base_image, places
from thunderctl.environments import wrapper

__all__ = ["base_image", "places"]  # fixtures

pytestmark = pytest.mark.docker

HIDING = {
    "in-the-background": "sleep 1001 & sleep 1001",
    "in-a-session-of-its-own": "(setsid sleep 1001 &) ; sleep 1001",
    "deaf-to-sigterm": "(setsid sh -c \"trap '' TERM HUP INT; while :; do sleep 1; done\" 1001 &); sleep 1001",
    "without-its-environment": "(env -i setsid sh -c 'sleep 1001 & sleep 1001' &); sleep 1001",
}
every_way = pytest.mark.parametrize("command", HIDING.values(), ids=HIDING)


async def neighbour(places: Places, place: Place) -> asyncio.Task[str]:
    """A command of a few parts that runs on beside others until told to end."""

    async def run() -> str:
        said = "(setsid sleep 2002 &); echo here; until [ -e /tmp/over ]; do sleep 0.1; done; pgrep -c -x sleep"
        return (await place.execute(said)).output

    task = asyncio.create_task(run())
    while not any(line == "sleep 2002" for line in places.processes(place)):
        await asyncio.sleep(0.05)
    return task


def of_others(lines: list[str]) -> list[str]:
    return [line for line in lines if "1001" in line]


async def over(places: Places, place: Place, task: asyncio.Task[str]) -> None:
    """The neighbour is unharmed; with its end everything is gone."""
    assert "sleep 2002" in places.processes(place)
    assert (await place.execute("touch /tmp/over")).returncode == 0
    assert (await task).startswith("here\n")
    assert places.processes(place) == KEEPERS


@every_way
async def test_at_its_deadline_a_command_ends_whole_and_its_neighbour_goes_on(places: Places, command: str) -> None:
    place = await places.make()
    beside = await neighbour(places, place)
    done = await place.execute(f"echo first; {command}", timeout_s=1)
    assert done.timed_out and done.output == "first\n"
    assert of_others(places.processes(place)) == []
    await over(places, place, beside)


@every_way
async def test_a_cancelled_command_ends_whole_and_its_neighbour_goes_on(places: Places, command: str) -> None:
    place = await places.make()
    beside = await neighbour(places, place)
    running = asyncio.create_task(place.execute(command))
    while len([line for line in places.processes(place) if line.startswith("sleep 1")]) < 1:
        await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert of_others(places.processes(place)) == []
    await over(places, place, beside)


@every_way
async def test_what_the_first_command_left_ends_with_it_though_others_came_later(places: Places, command: str) -> None:
    place = await places.make()
    left, _, _ = command.rpartition("sleep 1001")
    first = asyncio.create_task(place.execute(f"{left} until [ -e /tmp/go ]; do sleep 0.1; done; echo first"))
    while not of_others(places.processes(place)):
        await asyncio.sleep(0.05)
    beside = await neighbour(places, place)
    await place.execute("touch /tmp/go")
    assert (await first).output == "first\n"
    assert [line for line in of_others(places.processes(place)) if "/tmp/go" not in line] == []
    await over(places, place, beside)


async def test_a_killed_wrapper_takes_its_command_along_and_leaves_the_neighbour(places: Places) -> None:
    place = await places.make()
    beside = await neighbour(places, place)
    parents = "p=$$; while [ $p -gt 1 ]; do set -- $(cat /proc/$p/stat); p=$4; [ $p -gt 1 ] && kill -9 $p; done"
    done = await place.execute(f"(setsid sleep 1001 &); {parents}; sleep 1001")
    assert done.returncode == 137
    assert of_others(places.processes(place)) == []
    await over(places, place, beside)


async def test_commands_that_begin_and_end_at_once_all_succeed_and_leave_nothing(places: Places) -> None:
    place = await places.make()

    async def one_after_the_other(who: int) -> list[tuple[str, int]]:
        done = [await place.execute(f"(setsid sleep 1001 &); echo {who} {n}") for n in range(12)]
        return [(each.output, each.returncode) for each in done]

    every = await asyncio.gather(*(one_after_the_other(who) for who in range(4)))
    assert every == [[(f"{who} {n}\n", 0) for n in range(12)] for who in range(4)]
    assert places.processes(place) == KEEPERS


async def test_without_the_subreaper_a_command_still_ends_what_bears_its_mark(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = wrapper.wrapped
    monkeypatch.setattr(wrapper, "wrapped", lambda *a, subreaper, beside: wrapped(*a, subreaper=False, beside=beside))
    place = await places.make()
    beside = await neighbour(places, place)
    for name in ("in-the-background", "in-a-session-of-its-own", "deaf-to-sigterm"):
        assert (await place.execute(HIDING[name], timeout_s=1)).timed_out
        assert of_others(places.processes(place)) == []
    await over(places, place, beside)
