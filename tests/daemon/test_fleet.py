"""Workers that others run: one that is not well stops being given work, and is given some again once it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.daemon.stub_engine import METRICS, answer
from thunderctl.core.policies import make_policy
from thunderctl.core.scheduler import Scheduler
from thunderctl.daemon import fleet
from thunderctl.daemon.fleet import Fleet
from thunderctl.daemon.journal import Journal
from thunderctl.daemon.shell import Shell
from thunderctl.daemon.upstream import Upstreams
from thunderctl.profile import GatewaySpec, Profile


class Server:
    """An external engine whose health a test decides."""

    def __init__(self) -> None:
        self.health = 200
        self._server: TestServer | None = None
        self.port: int | None = None

    async def start(self, note: object = None) -> None:
        async def health(request: web.Request) -> web.Response:
            return web.Response(status=self.health)

        async def metrics(request: web.Request) -> web.Response:
            return web.Response(text=METRICS)

        async def models(request: web.Request) -> web.Response:
            return web.json_response({"data": [{"id": "small", "max_model_len": 50000}]})

        app = web.Application()
        app.add_routes([web.get("/health", health), web.get("/metrics", metrics), web.get("/v1/models", models)])
        app.add_routes([web.post("/v1/completions", answer)])
        self._server = TestServer(app, port=self.port)
        await self._server.start_server()
        self.port = self._server.port

    async def stop(self) -> None:
        assert self._server is not None
        await self._server.close()


@asynccontextmanager
async def a_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Shell, Upstreams, Server]]:
    monkeypatch.setattr(fleet, "HEALTH_S", 0.02)
    monkeypatch.setattr(fleet, "RESTART_PAUSE_S", 0.05)
    server = Server()
    await server.start()
    profile = Profile.model_validate(
        {
            "name": "test",
            "engine": {"kind": "external"},
            "workers": {"urls": [f"http://127.0.0.1:{server.port}"]},
        }
    )
    shell = Shell(Scheduler(make_policy("thunder")), None)
    upstreams = Upstreams(GatewaySpec())
    journal = Journal(tmp_path / "state.db", "b", 0.0, {})
    workers = Fleet(
        profile, None, None, tmp_path, shell=shell, upstreams=upstreams, journal=journal, say=lambda text: None
    )
    await workers.start_missing()
    watching = asyncio.create_task(workers.watch(0))
    yield shell, upstreams, server
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    shell.close()
    await upstreams.close()
    await server.stop()


async def until_workers(shell: Shell, names: list[str]) -> None:
    for _ in range(500):
        if list(shell.scheduler.workers) == names:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"workers are {list(shell.scheduler.workers)}, not {names}")


async def test_a_worker_that_says_it_is_not_well_gets_no_calls_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, monkeypatch) as (shell, upstreams, server):
        server.health = 500
        await until_workers(shell, [])
        assert upstreams.get("w0") is None
        server.health = 200
        await until_workers(shell, ["w0"])
        assert upstreams.get("w0") is not None


async def test_a_worker_that_is_gone_comes_back_however_often_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_fleet(tmp_path, monkeypatch) as (shell, _upstreams, server):
        await server.stop()
        await until_workers(shell, [])
        await asyncio.sleep(0.5)  # more attempts than a worker of our own would be given
        await server.start()
        await until_workers(shell, ["w0"])


async def test_one_refusal_is_no_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "REFUSALS", 1000)
    async with a_fleet(tmp_path, monkeypatch) as (shell, _upstreams, server):
        server.health = 503
        await asyncio.sleep(0.2)
        assert list(shell.scheduler.workers) == ["w0"]
