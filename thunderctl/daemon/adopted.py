"""A worker that an earlier daemon of this node started, and that outlived it: taken over instead of started anew.

It is the same process (pid and start time say so) at the same URL; its KV cache is what makes it worth keeping.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from pathlib import Path
from typing import cast

import aiohttp
import msgspec

from thunderctl.daemon.journal import WorkerNote
from thunderctl.node import same_process
from thunderctl.profile import Profile
from thunderctl.workers.engine import EngineEnvironment
from thunderctl.workers.launch import Worker, WorkerFacts

POLL_S = 0.5
ANSWER_S = 10.0
"""A server in the middle of a long step takes its time to say that it is well."""


class _Inherited:
    """As much of ``asyncio.subprocess.Process`` as a worker asks for, for a process that is not our child."""

    def __init__(self, pid: int, create_time: float) -> None:
        self.pid = pid
        self._create_time = create_time

    @property
    def returncode(self) -> int | None:
        """Nobody can tell the exit code of another's child: 0 stands for any."""
        return None if same_process(self.pid, self._create_time) else 0

    async def wait(self) -> int:
        while self.returncode is None:  # noqa: ASYNC110 - nothing tells of the end of a process that is not our child
            await asyncio.sleep(POLL_S)
        return 0


class AdoptedWorker(Worker):
    """Beyond the first ``adopt``, a worker like any other."""

    def __init__(
        self,
        profile: Profile,
        index: int,
        engine: EngineEnvironment,
        model: str | None,
        log_path: Path,
        note: WorkerNote,
    ) -> None:
        super().__init__(profile, index, engine, model, log_path)
        self.url, self.pid, self.pgid, self.create_time = note.url, note.pid, note.pgid, note.create_time
        self.facts = msgspec.convert(note.facts, WorkerFacts | None)
        self._process = cast(Process, _Inherited(note.pid, note.create_time))
        self.scratch = Path(note.scratch) if note.scratch else None

    async def adopt(self) -> WorkerFacts | None:
        """Its facts if it was ready, lives and says that it is well, else ``None``: then ``stop`` it."""
        if not self.alive or self.facts is None:
            return None
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{self.url}/health") as answer:
                return self.facts if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None
