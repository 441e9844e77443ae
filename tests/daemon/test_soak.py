"""Five minutes of 2,048 programs through a real daemon, with clients that go away and workers that are killed.

``THUNDERCTL_SOAK_S`` and ``THUNDERCTL_SOAK_PROGRAMS`` make it shorter or smaller.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.daemon.killable import KillableNode

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("THUNDERCTL_SOAK_S", "300"))
PROGRAMS = int(os.environ.get("THUNDERCTL_SOAK_PROGRAMS", "2048"))
KILL_EVERY_S = max(8.0, SECONDS / 8)
GROWTH = 1.25
"""Of the daemon's memory from a fifth of the time to the end; what it keeps of each program fills up meanwhile."""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[KillableNode]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    node = KillableNode(tmp_path / "home", {"STUB_DELAY_S": "0.5", "STUB_KV": str(PROGRAMS * 200)})
    node.prepare(scheduler={"policy": "thunder"})
    yield node
    node.end()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_every_call_has_one_outcome_no_program_is_left_and_memory_stays_flat(node: KillableNode) -> None:
    node.start()
    dice = random.Random(11)
    end = time.monotonic() + SECONDS
    statuses: dict[object, int] = {}
    memory: list[int] = []

    async def agent(session: aiohttp.ClientSession, n: int) -> None:
        life = 0
        while time.monotonic() < end:
            life += 1
            name = f"p{n}-{life}"  # a program of some steps, then another one
            for step in range(dice.randrange(3, 20)):
                body = {"model": "small", "program_id": name, "prompt": [1] * (100 + 20 * step), "max_tokens": 5}
                patience = dice.choice([0.1, 1.0, 30.0, 30.0, 30.0])
                outcome: object
                try:
                    async with asyncio.timeout(patience):
                        async with session.post(f"{url}/v1/completions", json=body) as answer:
                            await answer.read()
                            outcome = answer.status
                except TimeoutError:
                    outcome = "went away"
                except aiohttp.ClientError as error:
                    outcome = type(error).__name__
                statuses[outcome] = statuses.get(outcome, 0) + 1
                if outcome == 503 or time.monotonic() > end:
                    await asyncio.sleep(dice.random())
                await asyncio.sleep(dice.random())
            async with session.post(f"{url}/programs/release", json={"program_id": name}) as answer:
                assert answer.status == 200

    async def kills() -> None:
        turn = 0
        while time.monotonic() < end - KILL_EVERY_S:
            await asyncio.sleep(KILL_EVERY_S)
            worker = node.get("/workers")[turn % 2]
            if worker["state"] == "up":
                os.kill(worker["pid"], signal.SIGKILL)
            turn += 1

    async def weigh() -> None:
        assert node.process is not None
        while time.monotonic() < end:
            await asyncio.sleep(SECONDS / 20)
            memory.append(psutil.Process(node.process.pid).memory_info().rss)

    url = node.url
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(kills(), weigh(), *(agent(session, n) for n in range(PROGRAMS)))
    health = node.get("/health")
    tally = health["tally"]
    assert tally["arrived"] == tally["finished"] + tally["failed"] + tally["cancelled"] + tally["rejected"]
    assert (health["held_calls"], health["reasoning_count"], health["programs_count"]) == (0, 0, 0)
    assert statuses[200] > PROGRAMS and statuses["went away"] > 0
    assert not set(statuses) - {200, 502, 503, "went away"}, statuses
    assert max(memory[-3:]) < GROWTH * min(memory[3:6]), [size >> 20 for size in memory]
