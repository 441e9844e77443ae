"""Agents at work without a node: environments from a manager of this process, answers as they were recorded.

For work on tasks themselves (``validate.py``, ``record.py``): no engine, no daemon, no scheduling, nothing measured.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from thunderctl import paths
from thunderctl.agents.client import Answer, DaemonClient, Lease, ToolResult
from thunderctl.environments.backend import Progress
from thunderctl.environments.lease import LeaseLedger
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.environments.spec import EnvironmentSpec
from thunderctl.errors import ThunderError
from thunderctl.node import NodeRecord, write_node
from thunderctl.profile import ToolEnvironmentSpec


class Rehearsal(DaemonClient):
    """What an agent takes for the daemon."""

    def __init__(self, manager: EnvironmentManager, name: str) -> None:
        super().__init__("", model="recorded")
        self.manager = manager
        self.name = name
        """Of the node that this process is, and of the run."""

    async def chat(
        self,
        program: str,
        messages: list[dict[str, Any]],
        *,
        max_tokens: int,
        replay: str | None = None,
        **how: Any,
    ) -> Answer:
        """The recorded answer, without an engine that emits it."""
        if replay is None:
            raise ThunderError("there is no model here: only recorded answers can be given")
        return Answer(
            content=replay, finish_reason="stop", prompt_tokens=0, cached_tokens=0, output_tokens=0, latency_s=0.0,
            held_s=0.0, worker="", attempts=1,
        )  # fmt: skip

    async def release(self, program: str) -> None:
        await self.manager.release_program(program)

    async def environment(
        self,
        program: str,
        run: str,
        *,
        image: str | None = None,
        files: Path | None = None,
        setup: list[str] | None = None,
        env: dict[str, str] | None = None,
        wait: bool = True,
    ) -> Lease:
        spec = EnvironmentSpec(image=image, files=files, setup=tuple(setup or ()), env=env or {})
        began = time.monotonic()
        lease = await self.manager.request(program, run, spec) if wait else self.manager.announce(program, run, spec)
        return Lease(lease.id, time.monotonic() - began)

    async def execute(
        self, lease: Lease, command: str, timeout_s: float | None = None, *, background: bool = False
    ) -> ToolResult:
        done = await self.manager.execute(lease.id, command, timeout_s, background=background)
        return ToolResult(**asdict(done))

    async def put_files(self, lease: Lease, files: dict[str, bytes]) -> None:
        await self.manager.put_files(lease.id, files)

    async def give_back(self, lease: Lease, why: str = "") -> None:
        await self.manager.release(lease.id, why)


@asynccontextmanager
async def a_rehearsal(settings: ToolEnvironmentSpec, progress: Progress) -> AsyncIterator[Rehearsal]:
    """A node that this process is. At the end its environments are gone, and so is its folder."""
    name = f"rehearsal-{secrets.token_hex(4)}"
    folder = paths.nodes() / name
    created = psutil.Process().create_time()
    write_node(folder, NodeRecord(os.getpid(), created, "", "rehearsal", "", created))
    ledger = LeaseLedger(folder / "state.db")
    manager = EnvironmentManager(settings, ledger, folder, name, progress=progress)
    try:
        await manager.start()
        yield Rehearsal(manager, name)
    finally:
        await manager.close()
        ledger.close()
        shutil.rmtree(folder, ignore_errors=True)
