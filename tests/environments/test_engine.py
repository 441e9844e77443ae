"""The connection to the engine: frames however they are cut, refusals in words, and addresses that cannot be used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from thunderctl.environments.engine import ContainerGone, EngineConnection
from thunderctl.environments.output import HeadTail
from thunderctl.errors import EnvironmentFailure, PreflightError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OneAnswer:
    """An engine that gives the same answer to everybody."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._runner: web.AppRunner | None = None

    async def gives(self, handler: Handler) -> EngineConnection:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", handler)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._socket)).start()
        return EngineConnection()

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OneAnswer]:
    socket = tmp_path / "engine.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    made = OneAnswer(socket)
    yield made
    await made.close()


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def in_pieces(data: bytes, size: int) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(data), size):
            await response.write(data[start : start + size])
            await asyncio.sleep(0)
        return response

    return handler


@pytest.mark.parametrize("size", [1, 3, 8, 9, 1000])
async def test_frames_are_put_together_however_they_arrive(engine: OneAnswer, size: int) -> None:
    data = frame(2, b"begun\n") + frame(1, b"one\n") + frame(1, b"") + frame(2, b"two\n") + frame(1, b"three\n" * 5)
    line = await engine.gives(in_pieces(data, size))
    apart, errors = HeadTail(1000), list[bytes]()
    await line.stream("x", apart, errors.append)
    assert (apart.text()[0], errors) == ("one\n" + "three\n" * 5, [b"begun\n", b"two\n"])
    joined = HeadTail(1000)
    await line.stream("x", joined)
    assert joined.text()[0] == "begun\none\ntwo\n" + "three\n" * 5
    await line.close()


async def test_events_arrive_line_by_line_after_the_engine_listens(engine: OneAnswer) -> None:
    line = await engine.gives(in_pieces(b'{"Action": "die"}\n\n{"Action": "oom"}\n', 5))
    heard = [event async for event in line.events({"type": ["container"]})]
    assert heard == [None, {"Action": "die"}, {"Action": "oom"}]
    await line.close()


@pytest.mark.parametrize(("status", "gone"), [(404, True), (409, True), (500, False)])
async def test_a_refusal_is_told_in_the_engines_words(engine: OneAnswer, status: int, gone: bool) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"message": "no room"}, status=status, dumps=lambda value: '{"message":"no room"}\n')

    line = await engine.gives(refuse)

    async def listen() -> None:
        async for _ in line.events({}):
            pass

    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: line.create("c", ["true"], {}, "/", "0"),
        lambda: line.stream("x", HeadTail(10)),
        lambda: line.exit_code("x"),
        lambda: line.containers({}),
        listen,
    ]
    for call in calls:
        with pytest.raises(EnvironmentFailure, match="no room") as failure:
            await call()
        assert isinstance(failure.value, ContainerGone) == gone
    await line.close()


async def test_an_engine_that_goes_away_is_a_failure_and_not_a_crash(engine: OneAnswer) -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        await response.write(frame(1, b"one\n"))
        assert request.transport is not None
        request.transport.abort()
        return response

    line = await engine.gives(hang_up)
    with pytest.raises(EnvironmentFailure, match="broke off a command"):
        await line.stream("x", HeadTail(10))
    with pytest.raises(EnvironmentFailure, match="does not answer"):
        await line.containers({})
    await engine.close()
    with pytest.raises(EnvironmentFailure, match="does not answer"):
        await line.state("c")
    await line.close()


def test_an_address_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://somewhere")
    with pytest.raises(PreflightError, match="ssh://somewhere"):
        EngineConnection()
