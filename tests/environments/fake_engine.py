"""A Docker engine of version 20.10 as its HTTP API shows it, on a unix socket, without containers behind it.

It answers what the Docker SDK and our own connection ask, with the status codes and words of the real one
(test_fake_engine.py compares them). It can be told to refuse, to lose answers, to be slow, and to stop and start again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, TypeVar

from aiohttp import web

from tests.environments.fake_engine_containers import ContainerCalls
from tests.environments.fake_engine_images import HEADERS, Refusal, filters, volumes_of
from tests.environments.fake_engine_things import KILLED, Image, matches, tagged

T = TypeVar("T")
How = Literal["refuse", "drop", "lose", "slow"]
"""``refuse``: 500, nothing done. ``drop``: the connection breaks, nothing done. ``lose``: done, but the connection
breaks before the answer. ``slow``: done after a while."""


@dataclass
class Trouble:
    kind: str
    how: How
    left: int
    seconds: float


class FakeEngine(ContainerCalls):
    """Start it with :meth:`start`; its sockets answer until :meth:`stop`. What it has outlives both.

    ``kind`` in :attr:`calls` and :meth:`trouble` is the name of a method below without its ``_on_``; patterns are fine.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.socket = folder / "engine.sock"
        self.calls: Counter[str] = Counter()
        self.spared: Path | None = None
        """A socket whose calls never go wrong."""
        self.under_way = 0
        """Calls that are not answered yet; whoever listens to events does not count."""
        self._troubles: list[Trouble] = []
        self._lines: dict[Path, web.UnixSite] = {}
        self._runner: web.AppRunner | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake engine", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ for the test

    def start(self) -> None:
        self._do(self._start())

    def stop(self, *, live_restore: bool = False) -> None:
        """As a restart of the engine begins: connections break, and containers end unless they may live on."""
        self._do(self._stop(live_restore))

    def close(self) -> None:
        self._do(self._stop(False))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def answers(self) -> bool:
        return self._runner is not None

    def line(self, path: Path) -> str:
        """One more socket, as a ``DOCKER_HOST``, for somebody who may be cut off."""
        self._do(self._listen(path))
        return f"unix://{path}"

    def cut(self, path: Path) -> None:
        """Whoever used the socket ``path`` is gone: what they asked for is done, but nobody hears about it."""
        self._do(self._hang_up(path))

    def trouble(self, kind: str, how: How, times: int = 1, seconds: float = 0.0) -> None:
        """The next ``times`` calls of a kind go wrong."""
        self._troubles.append(Trouble(kind, how, times, seconds))

    def heal(self) -> None:
        self._troubles.clear()

    def add_image(self, *tags: str, **config: Any) -> Image:
        image = Image(config, tags=[tagged(tag) for tag in tags])
        self.images.append(image)
        return image

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    # ------------------------------------------------------------------ sockets

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        for path in self._lines or [self.socket]:
            await self._listen(path)

    async def _listen(self, path: Path) -> None:
        if self._runner is not None:
            path.unlink(missing_ok=True)
            self._lines[path] = web.UnixSite(self._runner, path)
            await self._lines[path].start()

    async def _stop(self, live_restore: bool) -> None:
        if self._runner is None:
            return
        for container in self.containers.values():
            container.removing = False
            if not live_restore:
                container.end(KILLED)
        self._hang_up_all(lambda path: True)
        runner, self._runner = self._runner, None
        await runner.cleanup()

    async def _hang_up(self, path: Path) -> None:
        site = self._lines.pop(path, None)
        if site is not None and self._runner is not None:
            await site.stop()
            self._hang_up_all(lambda name: name == str(path))
        path.unlink(missing_ok=True)

    def _hang_up_all(self, whom: Callable[[str], bool]) -> None:
        server = None if self._runner is None else self._runner.server
        for connection in server.connections if server is not None else ():
            if connection.transport is not None and whom(connection.transport.get_extra_info("sockname")):
                connection.transport.abort()

    # ------------------------------------------------------------------ calls

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = re.sub(r"^/v\d+\.\d+(?=/)", "", request.path)
        for method, pattern, kind in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method in (request.method, "ANY"):
                return await self._answer(kind, request, found.groups())
        return self._said({"message": "page not found"}, 404)

    async def _answer(self, kind: str, request: web.Request, parts: tuple[str, ...]) -> web.StreamResponse:
        self.calls[kind] += 1
        self.under_way += kind != "events"
        try:
            asked_at = None if request.transport is None else request.transport.get_extra_info("sockname")
            how = None if asked_at == str(self.spared) else await self._trouble_with(kind)
            if how == "refuse":
                return self._said({"message": "the fake engine was told to refuse this"}, 500)
            if how != "drop":
                handler: Callable[..., Awaitable[web.StreamResponse]] = getattr(self, f"_on_{kind}")
                try:
                    answer = await handler(request, *parts)
                except Refusal as refusal:
                    answer = self._said({"message": refusal.message}, refusal.status)
                except ConnectionError:  # whoever asked is gone before all was said
                    return web.Response()
            if how in ("drop", "lose"):
                if request.transport is not None:
                    request.transport.abort()
                return web.Response()
            return answer
        finally:
            self.under_way -= kind != "events"

    async def _trouble_with(self, kind: str) -> How | None:
        for trouble in self._troubles:
            if trouble.left > 0 and fnmatch(kind, trouble.kind):
                trouble.left -= 1
                if trouble.how != "slow":
                    return trouble.how
                await asyncio.sleep(trouble.seconds)
        return None

    async def _pause_for(self, kind: str) -> None:
        await self._trouble_with(kind)

    # ------------------------------------------------------------------ the engine itself

    async def _on_ping(self, request: web.Request) -> web.Response:
        return web.Response(text="OK", headers=HEADERS)

    async def _on_version(self, request: web.Request) -> web.Response:
        return self._said(
            {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"}
        )

    async def _on_info(self, request: web.Request) -> web.Response:
        return self._said(
            {
                "ID": "FAKE",
                "ServerVersion": "20.10.24",
                "Driver": "overlay2",
                "DockerRootDir": "/nowhere",
                "Containers": len(self.containers),
                "Images": len(self.images),
                "NCPU": 2,
                "MemTotal": 1 << 32,
                "CgroupVersion": "2",
                "SecurityOptions": ["name=seccomp,profile=default"],
                "InitBinary": "docker-init",
            }
        )

    async def _on_df(self, request: web.Request) -> web.Response:
        users = Counter(name for each in self.containers.values() for name in volumes_of(each))
        usage = [
            {**volume.told(), "UsageData": {"Size": 0, "RefCount": users[volume.name]}}
            for volume in self.volumes.values()
        ]
        return self._said(
            {
                "LayersSize": sum(image.size for image in self.images),
                "Images": [image.listed() for image in self.images],
                "Containers": [each.listed(True) for each in self.containers.values()],
                "Volumes": usage,
                "BuildCache": None,
            }
        )

    async def _on_events(self, request: web.Request) -> web.StreamResponse:
        """What has happened since ``since``, or from now on; with ``until`` that is all, else the stream goes on."""
        wanted, since = filters(request), float(request.query.get("since") or 0)
        seen = 0 if "since" in request.query else len(self.events)
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "application/json"})
        with contextlib.suppress(ConnectionError):  # nobody listens any more
            await response.prepare(request)
            while request.transport is not None and not request.transport.is_closing():
                for event in self.events[seen:]:
                    labels = event["Actor"]["Attributes"]
                    if (
                        event["time"] >= since
                        and event["Type"] in wanted.get("type", [event["Type"]])
                        and event["Action"] in wanted.get("event", [event["Action"]])
                        and matches(labels, wanted.get("label", []))
                    ):
                        await response.write(json.dumps(event).encode() + b"\n")
                seen = len(self.events)
                if "until" in request.query:
                    break
                await asyncio.sleep(0.02)
        return response


ROUTES = [
    ("ANY", "/_ping", "ping"),
    ("GET", "/version", "version"),
    ("GET", "/info", "info"),
    ("GET", "/system/df", "df"),
    ("GET", "/events", "events"),
    ("GET", "/images/json", "image_list"),
    ("POST", "/images/create", "image_create"),
    ("GET", "/images/(.+)/json", "image_inspect"),
    ("GET", "/images/(.+)/history", "image_history"),
    ("POST", "/images/(.+)/tag", "image_tag"),
    ("DELETE", "/images/(.+)", "image_remove"),
    ("POST", "/build", "build"),
    ("POST", "/commit", "commit"),
    ("POST", "/containers/create", "container_create"),
    ("GET", "/containers/json", "container_list"),
    ("GET", "/containers/([^/]+)/json", "container_inspect"),
    ("POST", "/containers/([^/]+)/start", "container_start"),
    ("POST", "/containers/([^/]+)/kill", "container_kill"),
    ("GET", "/containers/([^/]+)/top", "container_top"),
    ("ANY", "/containers/([^/]+)/archive", "archive"),
    ("POST", "/containers/([^/]+)/exec", "exec_create"),
    ("DELETE", "/containers/([^/]+)", "container_remove"),
    ("POST", "/exec/([^/]+)/start", "exec_start"),
    ("GET", "/exec/([^/]+)/json", "exec_inspect"),
    ("GET", "/volumes", "volume_list"),
    ("POST", "/volumes/create", "volume_create"),
    ("GET", "/volumes/([^/]+)", "volume_inspect"),
    ("DELETE", "/volumes/([^/]+)", "volume_remove"),
    ("GET", "/networks", "network_list"),
    ("POST", "/networks/create", "network_create"),
    ("GET", "/networks/([^/]+)", "network_inspect"),
    ("DELETE", "/networks/([^/]+)", "network_remove"),
]
"""Method, path without the version, kind. First match wins."""
