"""A daemon that is killed and started again, as processes: the same programs, places, workers, address and token.

The engine is a stub that is started like vLLM and outlives its daemon like vLLM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.commandline import CommandLine, until
from tests.daemon.killable import STUB, KillableNode
from thunderctl.errors import DaemonError


@pytest.fixture
def node(tmp_path: Path) -> Iterator[KillableNode]:
    node = KillableNode(tmp_path / "home")
    yield node
    node.end()


async def some_steps(node: KillableNode, programs: int, steps: int) -> None:
    async with node.client() as client:

        async def agent(name: str) -> None:
            for step in range(steps):
                await client.complete(name, [1] * (100 * (step + 1)), [2] * 5)

        await asyncio.gather(*(agent(f"p{n}") for n in range(programs)))


async def test_after_kill_9_the_next_daemon_knows_the_same_programs_and_uses_the_same_workers(
    node: KillableNode,
) -> None:
    node.prepare()
    node.start()
    await some_steps(node, programs=12, steps=3)
    before, workers, url = node.programs(), node.get("/workers"), node.url
    token, tally = (node.folder / "token").read_text(), node.get("/health")["tally"]
    story = node.get("/programs/p3")["timeline"]
    assert len(before) == 12 and {p["step_count"] for p in before.values()} == {3}
    node.kill()
    node.start()
    assert node.programs() == before
    assert [w["pid"] for w in node.get("/workers")] == [w["pid"] for w in workers]
    assert (node.url, (node.folder / "token").read_text()) == (url, token)
    health = node.get("/health")
    assert health["resumed"] is True and health["tally"] == tally
    told = node.get("/programs/p3")["timeline"]
    assert [{**entry, "at": 0} for entry in told] == [{**entry, "at": 0} for entry in story]
    assert max(abs(a["at"] - b["at"]) for a, b in zip(told, story, strict=True)) < 1.0
    # And it goes on from there.
    async with node.client() as client:
        await client.complete("p0", [1] * 400, [2] * 5)
    after = node.programs()["p0"]
    assert (after["step_count"], after["backend"]) == (4, before["p0"]["backend"])


async def test_agents_that_lose_their_daemon_twice_lose_no_step_and_none_counts_twice(node: KillableNode) -> None:
    node.env["STUB_DELAY_S"] = "0.15"
    node.prepare()
    node.start()
    working = asyncio.create_task(some_steps(node, programs=16, steps=20))
    for _ in range(2):
        await asyncio.sleep(1.0)
        assert not working.done()
        node.kill()
        await asyncio.to_thread(node.start)
    await working
    programs = node.programs()
    assert {name: row["step_count"] for name, row in programs.items()} == {f"p{n}": 20 for n in range(16)}
    health = node.get("/health")
    assert health["held_calls"] == 0 and health["reasoning_count"] == 0
    tally = health["tally"]
    assert tally["arrived"] == tally["finished"] + tally["failed"] + tally["cancelled"] + tally["rejected"]


async def test_a_worker_that_died_with_its_daemon_is_started_anew_and_its_programs_wait_for_it(
    node: KillableNode,
) -> None:
    node.prepare()
    node.start()
    await some_steps(node, programs=8, steps=2)
    workers, before = node.get("/workers"), node.programs()
    scratch = Path(psutil.Process(workers[0]["pid"]).environ()["TMPDIR"])
    assert scratch.is_dir()
    node.kill()
    os.kill(workers[0]["pid"], signal.SIGKILL)
    node.start()
    assert not scratch.exists()
    now = node.get("/workers")
    assert now[0]["taken_over"] is False or now[1]["taken_over"] is False
    by_name = {w["name"]: w for w in now}
    assert by_name["w0"]["pid"] != workers[0]["pid"] and by_name["w1"]["pid"] == workers[1]["pid"]
    after = node.programs()
    assert set(after) == set(before)
    for name, row in before.items():
        if row["backend"] == "w1":
            assert after[name] == row
    await some_steps(node, programs=8, steps=1)


def test_a_worker_that_was_still_starting_when_the_daemon_was_killed_is_ended(node: KillableNode) -> None:
    node.env["STUB_START_S"] = "600"
    node.prepare()
    node.start(wait=False)
    stubs = CommandLine(node.home)
    until(lambda: len([p for p in stubs.processes() if str(STUB) in p.cmdline()]) == 2)
    until(lambda: (node.folder / "node.json").exists())
    orphans = {p.pid for p in stubs.processes() if str(STUB) in p.cmdline()}
    node.kill()
    node.env["STUB_START_S"] = "0"
    node.start()
    assert not orphans & {p.pid for p in stubs.processes()}
    assert {w["state"] for w in node.get("/workers")} == {"up"}


def test_a_journal_that_cannot_be_replayed_costs_the_programs_and_no_worker(node: KillableNode) -> None:
    node.prepare()
    node.start()
    asyncio.run(some_steps(node, programs=2, steps=1))
    workers = node.get("/workers")
    node.kill()
    subprocess.run(
        [sys.executable, "-c", "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); "
         "db.execute(\"UPDATE events SET record = 'nonsense' WHERE seq = 3\"); db.commit()",
         str(node.folder / "state.db")],
        check=True,
    )  # fmt: skip
    node.start()
    assert node.programs() == {}
    assert [w["pid"] for w in node.get("/workers")] == [w["pid"] for w in workers]
    asyncio.run(some_steps(node, programs=2, steps=1))
    assert len(node.programs()) == 2


def test_after_an_orderly_end_the_next_daemon_begins_anew(node: KillableNode) -> None:
    node.prepare()
    node.start()
    asyncio.run(some_steps(node, programs=2, steps=1))
    assert node.process is not None
    node.process.terminate()
    node.process.wait(30)
    node.start()
    assert node.programs() == {} and node.get("/health")["resumed"] is False


async def test_a_ready_environment_stays_its_programs_and_a_command_that_ran_in_it_ends(node: KillableNode) -> None:
    node.prepare()
    node.start()
    async with node.client() as client:
        lease = await client.environment("p0", "run")
        await client.put_files(lease, {"kept.txt": b"kept"})
        running = asyncio.create_task(client.execute(lease, "sleep 1000"))
        await asyncio.to_thread(until, lambda: node.get("/environments")[0]["state"] == "in_use")
        node.kill()
        with pytest.raises(DaemonError):
            await running
        await asyncio.to_thread(node.start)
        assert [(e["id"], e["state"]) for e in node.get("/environments")] == [(lease.id, "in_use")]
        assert (await client.execute(lease, "cat kept.txt")).output == "kept"
        assert not [p for p in CommandLine(node.home).processes() if "1000" in p.cmdline()]
        await client.give_back(lease)
        assert node.get("/environments")[0]["state"] == "reclaimed"
