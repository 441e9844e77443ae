"""One program for code that knows no asyncio: its model calls, its tool environment, and its end.

The program is released when its ``with`` block ends, when nothing refers to it any more, or when Python ends, whichever
comes first; if the process is killed, the daemon notices its silence. A thread of its own talks to the daemon.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from thunderctl import launcher
from thunderctl.agents.client import Answer, DaemonClient, Lease, ToolResult
from thunderctl.errors import DaemonError
from thunderctl.launcher import DEFAULT_NODE

T = TypeVar("T")


class _Link:
    """A connection to the daemon, and the thread in which its event loop runs."""

    def __init__(self, client: DaemonClient) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="thunderctl program", daemon=True)
        self._thread.start()
        self.ask(DaemonClient.__aenter__)

    def ask(self, question: Callable[[DaemonClient], Awaitable[T]]) -> T:
        async def put() -> T:
            return await question(self._client)

        answer = asyncio.run_coroutine_threadsafe(put(), self._loop)
        try:
            return answer.result()
        finally:
            answer.cancel()  # Ctrl-C while it was under way: the daemon aborts a call whose client is gone

    def end(self, program: str) -> None:
        try:
            self.ask(lambda client: client.release(program))
        finally:
            self.ask(lambda client: client.__aexit__())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class Program:
    """A program on the node ``node``, which is up; or on the daemon that ``client`` reaches.

    ``DaemonError`` if no node is up, or if the daemon refuses something.
    """

    def __init__(
        self, name: str | None = None, *, node: str = DEFAULT_NODE, client: DaemonClient | None = None
    ) -> None:
        self.name = name or f"program-{secrets.token_hex(4)}"
        client = client or launcher.need(node).client()
        self.model = client.model
        """Name of the model that the node serves."""
        self._link = _Link(client)
        self._lease: Lease | None = None
        self._end = weakref.finalize(self, self._link.end, self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except DaemonError as unreleased:
            if failure is None:
                raise
            failure.add_note(f"and {self.name} was not released: {unreleased.message}")

    def release(self) -> None:
        """The program is over: its place and its environment go. More than once is as good as once."""
        self._end()

    def chat(
        self,
        messages: list[dict[str, Any]],
        *,
        max_tokens: int,
        temperature: float | None = None,
        replay: str | None = None,
    ) -> Answer:
        """One model call; it waits for as long as the scheduler holds it. ``replay``: what the engine has to answer."""
        return self._link.ask(
            lambda client: client.chat(
                self.name, messages, max_tokens=max_tokens, temperature=temperature, replay=replay
            )
        )

    def environment(
        self,
        *,
        image: str | None = None,
        files: Path | None = None,
        setup: list[str] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        """Announce the environment that :meth:`execute` uses. It is prepared while the program waits or the model
        answers. ``EnvironmentFailure`` at the first command if it cannot be."""
        self._lease = self._link.ask(
            lambda client: client.environment(
                self.name, self.name, image=image, files=files, setup=setup, env=env, wait=False
            )
        )

    def execute(self, command: str, timeout_s: float | None = None) -> ToolResult:
        """Run a command in the environment; without ``timeout_s`` the profile's limit holds."""
        lease = self._lease
        if lease is None:
            raise ValueError("announce an environment first")
        return self._link.ask(lambda client: client.execute(lease, command, timeout_s))
