"""Samples of every worker's own metrics, and of the ledger beside them, once in ``SAMPLE_S``."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import aiohttp

from thunderctl.daemon.metrics import faded_acting
from thunderctl.daemon.shell import Shell
from thunderctl.daemon.upstream import Upstreams
from thunderctl.errors import EngineError
from thunderctl.workers.emulation import Lag
from thunderctl.workers.metrics import read_metrics

SAMPLE_S = 2.0
SAMPLES_KEPT = 43_200
"""A day of samples of one worker."""


class Probe:
    """Keeps the latest samples; ``GET /samples`` hands them to whoever stores a run."""

    def __init__(
        self, shell: Shell, upstreams: Upstreams, read_lag: Callable[[str], Lag | None] = lambda worker: None
    ) -> None:
        self._shell = shell
        self._upstreams = upstreams
        self._read_lag = read_lag
        self._task: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self.samples: deque[dict[str, Any]] = deque(maxlen=SAMPLES_KEPT)
        self.count = 0

    def start(self) -> None:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        self._task = asyncio.create_task(self._keep_sampling())

    async def _keep_sampling(self) -> None:
        while True:
            await self.sample()
            await asyncio.sleep(SAMPLE_S)

    async def sample(self) -> None:
        """Take one sample of each worker now."""
        assert self._session is not None  # noqa: S101 - start() comes first
        for name in self._upstreams.names:
            connections = self._upstreams.get(name)
            if connections is None or name not in self._shell.scheduler.workers:
                continue
            try:
                engine = await read_metrics(self._session, connections.url)
            except EngineError:
                continue  # its death is noticed elsewhere; a sample is missing, no more
            ledger = self._shell.scheduler.workers.get(name)
            if ledger is None:
                continue  # it was lost meanwhile
            lag = self._read_lag(name)
            self.count += 1
            self.samples.append(
                {
                    "n": self.count,
                    "at": time.time(),
                    "worker": name,
                    "engine": asdict(engine),
                    "reasoning_tokens": ledger.reasoning,
                    "acting_tokens": ledger.acting,
                    "faded_acting_tokens": round(faded_acting(ledger, self._shell.now()), 1),
                    "capacity_tokens": ledger.capacity,
                    "held_calls": self._shell.held_calls,
                    "cost": ledger.cost.as_dict(),
                    **({"pace": asdict(lag)} if lag else {}),
                }
            )

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
