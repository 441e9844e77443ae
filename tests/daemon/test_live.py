"""The live picture and its streams: right figures, and listeners that are slow, gone or too many cost nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.commandline import until
from tests.daemon.killable import KillableNode
from thunderctl.daemon import live
from thunderctl.daemon.live import Live
from thunderctl.daemon.node import Node
from thunderctl.daemon.shell import Tally


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KillableNode]:
    """One worker with room for two programs, and three that each made four steps."""
    node = KillableNode(tmp_path_factory.mktemp("live") / "home", {"STUB_KV": "2500"})
    node.prepare(workers={"count": 1})
    node.start()

    async def work() -> None:
        async with node.client() as client:

            async def agent(name: str) -> None:
                for _ in range(4):
                    await client.complete(name, [1] * 900, [2] * 5)

            await asyncio.gather(*(agent(f"p{n}") for n in range(3)))
            await client.release("p0")

    asyncio.run(work())
    yield node
    node.end()


async def next_picture(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    assert await answer.content.readline() == b"event: picture\n"
    data = await answer.content.readline()
    assert await answer.content.readline() == b"\n"
    found: dict[str, Any] = json.loads(data.removeprefix(b"data: "))
    return found


def test_the_picture_agrees_with_what_the_api_says_elsewhere(node: KillableNode) -> None:
    picture, health, programs = node.get("/live"), node.get("/health"), node.get("/programs")
    assert picture["tally"] == health["tally"] and picture["tally"]["finished"] == 12
    assert picture["programs"]["total"] == len(programs) == 2
    assert sum(picture["programs"][s] for s in ("reasoning", "acting", "waiting", "paused")) == 2
    assert {row["program"] for row in picture["latest"]} == set(programs)
    worker, row = picture["workers"][0], health["workers"][0]
    assert {key: worker[key] for key in ("name", "capacity_tokens", "reasoning_tokens", "acting_tokens")} == {
        key: row[key] for key in ("name", "capacity_tokens", "reasoning_tokens", "acting_tokens")
    }
    assert picture["queue"] == {"programs": 0, "held_calls": 0, "longest": []}
    assert picture["environments"]["backend"] == "local"


def test_a_lost_worker_is_among_the_troubles(tmp_path_factory: pytest.TempPathFactory) -> None:
    node = KillableNode(tmp_path_factory.mktemp("lost") / "home", {"STUB_KV": "2500"})
    node.prepare(workers={"count": 1})
    node.start()
    try:
        psutil.Process(node.get("/health")["workers"][0]["pid"]).kill()
        until(lambda: any("w0 is gone" in trouble["text"] for trouble in node.get("/live")["troubles"]), 30)
    finally:
        node.end()


async def test_a_stream_sends_one_picture_after_another(node: KillableNode) -> None:
    async with aiohttp.ClientSession() as session, session.get(node.url + "/live/events") as answer:
        assert answer.content_type == "text/event-stream"
        first, second, third = [await next_picture(answer) for _ in range(3)]
        assert first["at"] < second["at"] < third["at"] and third["listeners"] == 1


async def test_a_listener_that_is_gone_is_forgotten(node: KillableNode) -> None:
    async with aiohttp.ClientSession() as session:
        answers = [await session.get(node.url + "/live/events") for _ in range(5)]
        for answer in answers:
            await next_picture(answer)
        for answer in answers:
            answer.close()

    def nobody() -> bool:
        return bool(node.get("/live")["listeners"] == 0)

    await asyncio.to_thread(until, nobody, 30)


async def test_listeners_do_not_keep_a_node_from_going_down(tmp_path_factory: pytest.TempPathFactory) -> None:
    node = KillableNode(tmp_path_factory.mktemp("down") / "home")
    node.prepare(workers={"count": 1})
    await asyncio.to_thread(node.start)
    try:
        async with aiohttp.ClientSession() as session, session.get(node.url + "/live/events") as answer:
            await next_picture(answer)
            assert node.process is not None
            node.process.terminate()
            while await answer.content.readline():
                pass
            assert await asyncio.to_thread(node.process.wait, 30) == 0
    finally:
        await asyncio.to_thread(node.end)


class Large(Live):
    """Pictures of half a megabyte, many a second: what a slow listener has to be protected from."""

    made = 0

    def picture(self) -> dict[str, Any]:
        self.made += 1
        return {"text": "x" * 500_000}


@pytest.fixture
async def large(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Large, TestServer]]:
    monkeypatch.setattr(live, "EVERY_S", 0.01)
    monkeypatch.setattr(live, "PATIENCE_S", 0.5)
    feed = Large(cast(Node, SimpleNamespace(shell=SimpleNamespace(tally=Tally()))), deque())
    app = web.Application()
    app.add_routes(feed.routes())
    server = TestServer(app)
    await server.start_server()
    feed.start()
    yield feed, server
    await feed.close()
    await server.close()


async def test_a_listener_that_takes_nothing_is_cut_off_and_holds_up_nobody(
    large: tuple[Large, TestServer],
) -> None:
    feed, server = large
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect((server.host, server.port))
    deaf.sendall(b"GET /live/events HTTP/1.1\r\nHost: x\r\n\r\n")
    url = server.make_url("/live/events")
    async with aiohttp.ClientSession(read_bufsize=2**20) as session, session.get(url) as answer:
        for _ in range(5):
            await answer.content.readuntil(b"\n\n")
        assert feed.listeners == 2
        while feed.listeners > 1:  # the deaf one's patience runs out
            await answer.content.readuntil(b"\n\n")
    deaf.close()
    while feed.listeners:
        await asyncio.sleep(0.01)


async def test_nothing_is_drawn_for_nobody(large: tuple[Large, TestServer]) -> None:
    feed, _server = large
    rounds = len(feed._past)
    while len(feed._past) < rounds + 5:
        await asyncio.sleep(0.01)
    assert feed.made == 0


async def test_more_listeners_than_there_may_be_are_told_to_come_back(
    large: tuple[Large, TestServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    _feed, server = large
    monkeypatch.setattr(live, "MOST_LISTENERS", 1)
    async with (
        aiohttp.ClientSession(read_bufsize=2**20) as session,
        session.get(server.make_url("/live/events")) as first,
    ):
        await first.content.readuntil(b"\n\n")
        async with session.get(server.make_url("/live/events")) as second:
            assert second.status == 503 and second.headers["Retry-After"] == "10"


def test_the_picture_wants_the_key_and_the_page_does_not(tmp_path_factory: pytest.TempPathFactory) -> None:
    node = KillableNode(tmp_path_factory.mktemp("key") / "home", {"LIVE_KEY": "a key of some length"})
    node.prepare(workers={"count": 1}, gateway={"api_key_env": "LIVE_KEY"})
    node.start()
    try:
        for path in ("/live", "/live/events", "/metrics", "/programs", "/decisions"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(node.url + path, timeout=10)
            assert refused.value.code == 401
        assert urllib.request.urlopen(node.url + "/ui", timeout=10).status == 200
        assert node.get("/health")["wants_key"] is True
        headers = {"Authorization": "Bearer a key of some length"}
        asked = urllib.request.Request(node.url + "/live", headers=headers)
        assert json.load(urllib.request.urlopen(asked, timeout=10))["node"] == "n"
    finally:
        node.end()
