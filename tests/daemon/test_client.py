"""Our own client against daemons that go away, refuse and come back: what it sends again, and what it must not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from thunderctl.agents.client import DaemonClient, Lease
from thunderctl.errors import DaemonError

ANSWER = {"choices": [{"text": "ok", "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


class Daemon:
    """Does to each request what ``script`` says next: hang up, break off, refuse or answer (the last goes on)."""

    def __init__(self, *script: str) -> None:
        self.script = list(script)
        self.names: list[str] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.names.append(request.headers.get("X-Thunderctl-Call", ""))
        todo = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        assert request.transport is not None
        if todo == "hang up":
            request.transport.close()
        elif todo == "break off":
            response = web.StreamResponse(headers={"Content-Length": "500"})
            await response.prepare(request)
            await response.write(b'{"choices"')
            request.transport.close()
            return response
        elif todo == "refuse":
            return web.json_response({"error": {"message": "not now"}}, status=503, headers={"Retry-After": "0"})
        elif todo == "deny":
            return web.json_response({"error": {"message": "too long"}}, status=400)
        return web.json_response(ANSWER)

    @asynccontextmanager
    async def client(self, patience_s: float = 10.0) -> AsyncIterator[DaemonClient]:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self.handle)
        server = TestServer(app)
        await server.start_server()
        self.url = str(server.make_url("")).rstrip("/")
        async with DaemonClient(self.url, model="small", patience_s=patience_s) as client:
            yield client
        await server.close()


@pytest.mark.parametrize("trouble", ["hang up", "break off", "refuse"])
async def test_a_model_call_is_sent_again_under_its_own_name(trouble: str) -> None:
    daemon = Daemon(trouble, trouble, "answer")
    async with daemon.client() as client:
        answer = await client.complete("p", [1], [2])
        assert (answer.content, answer.attempts) == ("ok", 3)
        await client.complete("p", [1], [2])
    first, second, third, other = daemon.names
    assert first == second == third != other and first and other


async def test_an_error_of_the_call_itself_is_final() -> None:
    daemon = Daemon("deny")
    async with daemon.client() as client:
        with pytest.raises(DaemonError, match="too long"):
            await client.complete("p", [1], [2])
    assert len(daemon.names) == 1


@pytest.mark.parametrize("trouble", ["hang up", "break off"])
async def test_a_command_that_may_have_run_is_not_run_again(trouble: str) -> None:
    daemon = Daemon(trouble)
    async with daemon.client() as client:
        with pytest.raises(DaemonError, match="broke off"):
            await client.execute(Lease("e1", 0.0), "rm -r build")
    assert len(daemon.names) == 1


async def test_patience_ends() -> None:
    daemon = Daemon("refuse")
    async with daemon.client(patience_s=0.6) as client:
        with pytest.raises(DaemonError, match="not now"):
            await client.complete("p", [1], [2])
    assert len(daemon.names) > 1


async def test_a_daemon_that_is_not_there_yet_is_waited_for() -> None:
    daemon = Daemon("answer")
    async with daemon.client() as client:
        port = int(daemon.url.rpartition(":")[2])
    client = DaemonClient(f"http://127.0.0.1:{port}", model="small", patience_s=20)
    async with client:
        waiting = asyncio.create_task(client.complete("p", [1], [2]))
        await asyncio.sleep(0.2)
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", daemon.handle)
        server = TestServer(app, port=port)
        await server.start_server()
        answer = await waiting
        assert answer.content == "ok" and answer.attempts > 1
        await server.close()


async def test_a_hold_may_last_longer_than_any_time_out_of_the_client() -> None:
    async with DaemonClient("http://127.0.0.1:9", model="small") as client:
        assert client._session is not None
        assert (client._session.timeout.total, client._session.timeout.sock_read) == (None, None)
