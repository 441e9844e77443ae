"""Containers that agents registered: whose they are, and which of them may be taken."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.commandline import CommandLine, until
from tests.daemon.killable import KillableNode
from tests.environments.conftest import dead_node, live_node
from tests.environments.test_images import root_tar
from thunderctl import paths
from thunderctl.daemon.containers import AgentContainers
from thunderctl.daemon.journal import Journal
from thunderctl.environments.collector import carry_out, plan
from thunderctl.environments.registered import collect, find, protected_by, refusal
from thunderctl.environments.remains import Registration, find_nodes

ID = "0123456789ab" + "c" * 52
OTHER = "0123456789ab" + "d" * 52
LISTING: list[dict[str, Any]] = [
    {"Id": ID, "Names": ["/mine"], "Labels": {}, "Created": 1000},
    {"Id": OTHER, "Names": ["/other", "/linked/other"], "Labels": {}, "Created": 1000},
]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (ID, ID), ("mine", ID), ("/mine", None), (ID[:13], ID), (ID[:12], None), (ID[:11], None), ("0", None),
        ("other", OTHER), ("", None), ("min", None), ("../mine", None), (OTHER[:40], OTHER),
    ],
)  # fmt: skip
def test_a_container_is_known_by_its_name_or_by_enough_of_its_id(said: str, meant: str | None) -> None:
    found = find(LISTING, said)
    assert (found["Id"] if found else None) == meant


@pytest.mark.parametrize(
    ("labels", "said", "at", "reason"),
    [
        ({}, "mine", 1000.0, None),
        ({"thunderctl.owner": "somebody-else"}, "mine", 1000.0, "another home"),
        ({"thunderctl.owner": "us"}, "mine", 1000.0, None),
        ({"thunderctl.owner": "us", "thunderctl.lease": "x"}, "mine", 1000.0, "belongs to a lease"),
        ({}, "mine", 900.0, "made after a container of this name"),
        ({}, ID[:13], 900.0, None),
    ],
)
def test_what_is_not_the_agents_to_give_away_stays(
    home: Path, labels: dict[str, str], said: str, at: float, reason: str | None
) -> None:
    home.mkdir()
    (home / "owner").write_text("us\n")
    told = refusal({**LISTING[0], "Labels": labels}, Registration("p", said, at), {})
    assert told is None if reason is None else reason in (told or "")


def register(folder: Path, *rows: tuple[str, str]) -> Journal:
    journal = Journal(folder / "state.db", f"b{uuid.uuid4().hex}", time.time(), {})
    for row in rows:
        journal.note_container(*row)
    return journal


def close(journal: Journal) -> None:
    asyncio.run(journal.close())


def test_what_programs_of_live_nodes_registered_is_protected_and_what_dead_ones_did_is_not(home: Path) -> None:
    close(register(live_node("lives"), ("a", "mine"), ("b", "no-such")))
    close(register(dead_node("gone"), ("c", "other")))
    assert protected_by(find_nodes(), LISTING) == {ID: "the program a of the live node lives"}


def test_a_table_of_an_earlier_version_gets_its_column(home: Path) -> None:
    folder = live_node("lives")
    with contextlib.closing(sqlite3.connect(folder / "state.db")) as db, db:
        db.execute("CREATE TABLE containers (program TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (program, id))")
    close(register(folder, ("p", "c1")))
    ((program, container),) = ((said.program, said.container) for said in find_nodes()["lives"].registered)
    assert (program, container) == ("p", "c1")


async def test_without_an_engine_they_are_left_to_their_agents_and_the_log_says_so(
    home: Path, no_engine: None, caplog: pytest.LogCaptureFixture
) -> None:
    journal = register(live_node("n"), ("p", "c1"), ("p", "c2"))
    containers = AgentContainers("n", journal)
    with caplog.at_level(logging.WARNING):
        containers.end("nobody")
        containers.end("p")
        await containers.close()
    assert "2 container(s) of agents are left to them: no Docker engine answers" in caplog.text
    assert journal.containers() == [("p", "c1"), ("p", "c2")]
    await journal.close()


# ---------------------------------------------------------------------- with an engine

Run = Callable[..., str]


@pytest.fixture
def run(engine: docker.DockerClient, tmp_path: Path) -> Iterator[Run]:
    """Makes containers of somebody else; each has an anonymous volume."""
    image = f"thunderctl-test/agent:{uuid.uuid4().hex[:8]}"
    root_tar(tmp_path / "root.tar")
    repository, _, tag = image.partition(":")
    engine.api.import_image(str(tmp_path / "root.tar"), repository=repository, tag=tag)
    made: list[str] = []

    def make(name: str = "", **labels: str) -> str:
        name = name or f"test-agent-{uuid.uuid4().hex[:8]}"
        host = engine.api.create_host_config()
        container = engine.api.create_container(
            image, ["/nothing"], name=name, volumes=["/data"], host_config=host, labels=labels
        )
        made.append(container["Id"])
        return str(container["Id"])

    yield make
    for container in made:
        with contextlib.suppress(docker.errors.NotFound):
            engine.api.remove_container(container, v=True, force=True)
    engine.api.remove_image(image)


def exists(engine: docker.DockerClient, container: str) -> bool:
    return bool(engine.api.containers(all=True, filters={"id": container}))


def volume_of(engine: docker.DockerClient, container: str) -> str:
    return str(engine.api.inspect_container(container)["Mounts"][0]["Name"])


@pytest.mark.docker
def test_what_ended_programs_registered_goes_with_its_volumes_and_nothing_else(
    home: Path, engine: docker.DockerClient, run: Run
) -> None:
    by_id, by_name, shared, foreign, unnamed = run(), run(name := f"test-{uuid.uuid4().hex[:8]}"), run(), run(), run()
    labelled = run(**{"thunderctl.owner": "somebody-else"})
    volume = volume_of(engine, by_id)
    mine = [by_id[:12], name, shared, labelled, "long-gone"]
    journal = register(live_node("n"), *(("p", each) for each in mine), ("q", shared[:20]), ("q", foreign))
    done = collect(engine, "n", {"p": mine})
    assert set(done.removed) == {by_id[:12], name}
    assert done.gone == ["long-gone"] and not done.failed
    assert done.left.keys() == {shared, labelled} and "program q" in done.left[shared]
    assert not exists(engine, by_id) and not exists(engine, by_name)
    assert all(exists(engine, each) for each in (shared, foreign, unnamed, labelled))
    assert volume not in {each["Name"] for each in engine.api.volumes()["Volumes"] or []}
    close(journal)


@pytest.mark.docker
async def test_two_programs_that_end_together_do_not_leave_what_they_share_to_each_other(
    home: Path, engine: docker.DockerClient, run: Run
) -> None:
    shared = run()
    journal = register(live_node("n"), ("p", shared), ("q", shared))
    containers = AgentContainers("n", journal)
    containers.end("p")
    containers.end("q")
    await containers.close()
    assert not exists(engine, shared)
    assert journal.containers() == []
    await journal.close()


@pytest.mark.docker
def test_gc_collects_what_agents_of_dead_nodes_registered_and_spares_what_a_live_program_did(
    home: Path, engine: docker.DockerClient, run: Run
) -> None:
    mine, shared = run(), run()
    volume = volume_of(engine, mine)
    close(register(dead_node("gone"), ("p", mine), ("p", shared), ("p", "long-gone")))
    close(register(live_node("lives"), ("q", shared)))
    todo = plan()
    assert [(item.kind, item.id) for item in todo.items] == [
        ("agent's container", mine), ("volume", volume), ("node", "gone"),
    ]  # fmt: skip
    assert (todo.items[0].program, todo.items[0].why) == ("p", "its node gone is dead")
    result = carry_out(todo)
    assert [item.kind for item in result.removed] == ["agent's container", "volume", "node"], result
    assert not exists(engine, mine) and exists(engine, shared)


@pytest.mark.docker
def test_gc_leaves_alone_what_a_live_program_registered_since(
    home: Path, engine: docker.DockerClient, run: Run
) -> None:
    mine = run()
    close(register(dead_node("gone"), ("p", mine)))
    todo = plan()
    close(register(live_node("lives"), ("q", mine)))
    result = carry_out(todo)
    (kept, *_) = (each for each in result.came_into_use if each.item.id == mine)
    assert "program q of the live node lives" in kept.reason
    assert exists(engine, mine)


@pytest.mark.docker
def test_gc_takes_no_later_container_of_a_registered_name(home: Path, engine: docker.DockerClient, run: Run) -> None:
    name = f"test-{uuid.uuid4().hex[:8]}"
    folder = dead_node("gone")
    close(register(folder, ("p", name)))
    with contextlib.closing(sqlite3.connect(folder / "state.db")) as db, db:
        db.execute("UPDATE containers SET at = at - 3600")
    later = run(name)
    todo = plan()
    assert later not in {item.id for item in todo.items}
    assert [each.reason for each in todo.kept if each.item.id == later] == [
        "it was made after a container of this name was registered"
    ]


@pytest.mark.docker
@pytest.mark.parametrize("end", ["release", "stop", "kill"])
def test_a_daemon_collects_at_the_release_and_at_its_end_and_gc_after_its_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: docker.DockerClient, run: Run, end: str
) -> None:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "n-home"))
    node = KillableNode(paths.home())
    node.prepare(workers={"count": 1})
    node.start()
    mine = run()

    async def work() -> None:
        async with node.client() as client:
            body = {
                "model": "small", "prompt": [1] * 10, "max_tokens": 1, "program_id": "p", "docker_ids": [mine[:12]],
                "vllm_xargs": {"replay": [2]},
            }  # fmt: skip
            await client._send("POST", "/v1/completions", body)
            if end == "release":
                await client.release("p")

    try:
        asyncio.run(work())
        if end == "release":
            until(lambda: not exists(engine, mine))
            until(lambda: not find_nodes()["n"].registered)
            assert node.get("/programs/p")["docker_ids"] == []
        elif end == "stop":
            assert exists(engine, mine) and node.process is not None
            node.process.terminate()
            node.process.wait(60)
            assert not exists(engine, mine)
        else:
            node.kill()
            carry_out(plan())
            assert not exists(engine, mine)
            until(CommandLine(paths.home()).nothing_runs)  # the reaper sees that nothing is left to it
    finally:
        if node.process is not None and node.process.poll() is not None:
            carry_out(plan())
        node.end()
