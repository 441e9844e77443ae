"""What waits for the engine, on the event loop: the calls that a command inside a container takes, and its events.

The Docker SDK blocks a thread for as long as a command runs; with hundreds of programs that is hundreds of threads
that wait. Everything else goes through the SDK. Standard output and error arrive on one stream, in frames of an
eight-byte header (1 or 2, three zeros, length) and the bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from thunderctl.environments.output import HeadTail
from thunderctl.errors import EnvironmentFailure, PreflightError

_DEFAULT = "unix:///var/run/docker.sock"
_HEADER = 8
_ERROR = 2
_GONE = (404, 409)
"""What the engine answers about a container that was removed, or does not run."""


class ContainerGone(EnvironmentFailure):
    """The engine has no such container any more, or it does not run."""


class EngineConnection:
    """The engine that ``DOCKER_HOST`` names, for commands only."""

    def __init__(self) -> None:
        host = os.environ.get("DOCKER_HOST") or _DEFAULT
        self._session: aiohttp.ClientSession | None = None
        self._host = host
        if not host.startswith(("unix://", "tcp://", "http://", "https://")):
            raise PreflightError(f"DOCKER_HOST={host} cannot be used", hint="use a unix:// or tcp:// address")

    def _open(self) -> tuple[aiohttp.ClientSession, str]:
        scheme, _, place = self._host.partition("://")
        tls = scheme == "https" or (scheme == "tcp" and bool(os.environ.get("DOCKER_TLS_VERIFY")))
        if self._session is None or self._session.closed:
            connector: aiohttp.BaseConnector
            if scheme == "unix":
                connector = aiohttp.UnixConnector(path=place, limit=0)
            else:
                connector = aiohttp.TCPConnector(limit=0, ssl=_client_tls() if tls else False)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_connect=10)
            )
        if scheme == "unix":
            return self._session, "http://engine"
        return self._session, f"{'https' if tls else 'http'}://{place}"

    async def create(self, container: str, argv: Sequence[str], env: Mapping[str, str], workdir: str, user: str) -> str:
        """Announce a command; its id. A container that is gone or stopped is an ``EnvironmentFailure``."""
        body = {
            "AttachStdout": True,
            "AttachStderr": True,
            "Cmd": list(argv),
            "Env": [f"{name}={value}" for name, value in env.items()],
            "WorkingDir": workdir,
            "User": user,
        }
        answer = await self._json("POST", f"/containers/{container}/exec", body)
        return str(answer["Id"])

    async def stream(self, exec_id: str, into: HeadTail, error: Callable[[bytes], None] | None = None) -> None:
        """Start the command and feed what it writes to ``into`` until it ended, its errors to ``error`` if given."""
        session, base = self._open()
        left = bytearray()
        try:
            async with session.post(f"{base}/exec/{exec_id}/start", json={"Detach": False, "Tty": False}) as response:
                if response.status >= 400:
                    raise _refused(response.status, await response.text())
                async for chunk in response.content.iter_any():
                    left += chunk
                    start = 0
                    while len(left) - start >= _HEADER:
                        length = int.from_bytes(left[start + 4 : start + _HEADER], "big")
                        if len(left) - start - _HEADER < length:
                            break
                        frame = bytes(left[start + _HEADER : start + _HEADER + length])
                        if error is not None and left[start] == _ERROR:
                            error(frame)
                        else:
                            into.feed(frame)
                        start += _HEADER + length
                    del left[:start]
        except aiohttp.ClientError as error:
            raise EnvironmentFailure(f"the Docker engine broke off a command: {error}") from error

    async def exit_code(self, exec_id: str) -> int | None:
        """The code of a command whose stream has ended; ``None`` if the engine has none to tell."""
        # The stream may end a moment before the engine has noted the exit.
        for pause in (0.0, 0.01, 0.05, 0.2, 0.5):
            await asyncio.sleep(pause)
            told = await self._json("GET", f"/exec/{exec_id}/json")
            if not told["Running"] and told["ExitCode"] is not None:
                return int(told["ExitCode"])
        return None

    async def state(self, container: str) -> dict[str, Any]:
        answer: dict[str, Any] = (await self._json("GET", f"/containers/{container}/json"))["State"]
        return answer

    async def events(self, filters: Mapping[str, Sequence[str]]) -> AsyncGenerator[dict[str, Any] | None, None]:
        """``None`` once the engine listens, then whatever ``filters`` let through, until it goes away."""
        session, base = self._open()
        asked = {"filters": json.dumps({name: list(values) for name, values in filters.items()})}
        try:
            async with session.get(f"{base}/events", params=asked) as response:
                if response.status >= 400:
                    raise _refused(response.status, await response.text())
                yield None
                async for line in response.content:
                    if line.strip():
                        yield json.loads(line)
        except (aiohttp.ClientError, ValueError) as error:
            raise EnvironmentFailure(f"the Docker engine does not answer: {error}") from error

    async def containers(self, filters: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """All containers that ``filters`` let through, running or not."""
        asked = json.dumps({name: list(values) for name, values in filters.items()})
        found: list[dict[str, Any]] = await self._json("GET", f"/containers/json?all=1&filters={quote(asked)}")
        return found

    async def exists(self, container: str, path: str) -> bool:
        """Whether there is anything at ``path`` in the container."""
        session, base = self._open()
        try:
            async with session.head(f"{base}/containers/{container}/archive", params={"path": path}) as response:
                return response.status == 200
        except aiohttp.ClientError as error:
            raise EnvironmentFailure(f"the Docker engine does not answer: {error}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _json(self, method: str, path: str, body: object = None) -> Any:
        session, base = self._open()
        try:
            async with session.request(method, base + path, json=body) as response:
                if response.status >= 400:
                    raise _refused(response.status, await response.text())
                return await response.json()
        except aiohttp.ClientError as error:
            raise EnvironmentFailure(f"the Docker engine does not answer: {error}") from error


def _refused(status: int, text: str) -> EnvironmentFailure:
    said = text.strip().removeprefix('{"message":"').removesuffix('"}')
    if status in _GONE:
        return ContainerGone(f"the container of this environment is gone: {said}")
    return EnvironmentFailure(f"the Docker engine refused a command ({status}): {said}")


def _client_tls() -> ssl.SSLContext:
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or "~/.docker").expanduser()
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context
