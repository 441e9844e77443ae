"""A worker that somebody else runs: known by its URL, probed, never started or stopped.

The interface is that of ``launch.Worker``, so that who holds workers need not ask which kind one is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp

from thunderctl.errors import EngineError
from thunderctl.profile import Profile
from thunderctl.workers.facts import WorkerFacts, learn_facts

_PROBE_TIMEOUT_S = 10.0


class ExternalWorker:
    """The server behind ``profile.workers.urls[index]``."""

    pid: int | None = None
    create_time: float | None = None
    pgid: int | None = None
    scratch: Path | None = None

    def __init__(self, profile: Profile, index: int) -> None:
        self.index = index
        self.url = profile.workers.urls[index].rstrip("/").removesuffix("/v1")
        self.facts: WorkerFacts | None = None
        self._answered = False

    @property
    def alive(self) -> bool:
        """Whether the last probe was answered."""
        return self._answered

    async def start(self, note: Callable[[Path], None] = lambda scratch: None) -> None:
        """Nothing to start."""

    async def wait_ready(self, progress: Callable[[str], None] = lambda line: None) -> WorkerFacts:
        """Probe the server once and learn its facts.

        Raises:
            EngineError: it does not answer.
        """
        progress(f"asking {self.url}")
        async with aiohttp.ClientSession() as session:
            await self._probe(session)
            self.facts = await learn_facts(session, self.url)
        return self.facts

    async def _probe(self, session: aiohttp.ClientSession) -> None:
        self._answered = False
        hint = "start that server, or correct workers.urls (base URLs, without /v1)"
        try:
            timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)
            async with session.get(f"{self.url}/health", timeout=timeout) as answer:
                if answer.status != 200:
                    raise EngineError(f"{self.url}/health answered {answer.status}", hint=hint)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise EngineError(
                f"worker {self.index} at {self.url} does not answer: {error or type(error).__name__}", hint=hint
            ) from error
        self._answered = True

    async def wait(self) -> int:
        """Never returns: the end of somebody else's process is not ours to see."""
        never: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        return await never

    async def stop(self) -> None:
        """Nothing to stop."""
        self._answered = False
