"""Sets an environment up: the spec's commands, the first commit, and whether to keep that as an image layer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping

from thunderctl.environments.backend import COMMIT, COMMIT_ENV, Backend, Wanted, wanted_to_json
from thunderctl.environments.lease import Lease
from thunderctl.errors import EnvironmentFailure

SETUP_TIMEOUT_S = 600.0
WORTH_KEEPING_S = 2.0
"""A set-up that took less is kept only if it is asked for again: keeping it takes about a second, and disk."""


class SetUp:
    """Set-ups of one back-end."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._asked: Counter[bytes] = Counter()
        """How often an environment with this very set-up was asked for."""
        self._turns: dict[bytes, asyncio.Lock] = {}
        self._done: set[bytes] = set()

    def asked(self, wanted: Wanted) -> None:
        """Somebody will want such an environment."""
        if wanted.spec.setup:
            self._asked[wanted_to_json(wanted)] += 1

    @contextlib.asynccontextmanager
    async def turn(self, wanted: Wanted) -> AsyncIterator[None]:
        """Where set-up can be kept, one does it and the others wait for what it keeps."""
        if not wanted.spec.setup or self._backend.name != "docker":
            yield
            return
        kind = wanted_to_json(wanted)
        async with self._turns.setdefault(kind, asyncio.Lock()):
            if kind not in self._done:
                yield
                self._done.add(kind)
                return
        yield

    async def carry_out(self, lease: Lease, wanted: Wanted) -> None:
        """Run it in the environment; ``EnvironmentFailure`` with the last lines of the command that failed."""
        began = time.monotonic()
        for command in wanted.spec.setup:
            await self._step(lease, wanted, command, "the set-up command", {})
        if wanted.spec.git:
            await self._step(lease, wanted, COMMIT, "the first commit", COMMIT_ENV)
        often = self._asked[wanted_to_json(wanted)] > 1
        if wanted.spec.setup and (often or time.monotonic() - began > WORTH_KEEPING_S):
            await self._backend.keep(lease, wanted)

    async def _step(self, lease: Lease, wanted: Wanted, command: str, what: str, env: Mapping[str, str]) -> None:
        done = await self._backend.exec(lease, wanted, command, SETUP_TIMEOUT_S, env)
        if done.returncode:
            raise EnvironmentFailure(
                f"{what} of the environment ended with {done.returncode}: {command}",
                details=done.output.splitlines()[-10:],
            )
