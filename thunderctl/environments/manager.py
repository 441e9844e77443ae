"""The environment manager: the one door through which the daemon gets, uses and gives back tool environments.

Every lease is in the ledger before its environment exists, and every way out (an answer, a failure, a cancellation)
ends either with a lease that is ready or with nothing. An environment runs one command at a time, and what a command
started ends with it: a tool that needs a server starts it in the same command.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from thunderctl import paths
from thunderctl.environments.backend import (
    COMMIT,
    COMMIT_ENV,
    Backend,
    Progress,
    Wanted,
    describe,
    to_the_end,
    wanted_from_json,
    wanted_to_json,
)
from thunderctl.environments.docker import DockerBackend
from thunderctl.environments.images import BASE
from thunderctl.environments.lease import Lease, LeaseLedger, State
from thunderctl.environments.local import LocalBackend
from thunderctl.environments.processes import kill_marked
from thunderctl.environments.spec import DiskUsage, EnvironmentSpec, ExecResult, Limits
from thunderctl.errors import EnvironmentFailure, PreflightError, ThunderError
from thunderctl.profile import ToolEnvironmentSpec

T = TypeVar("T")

OnEvent = Callable[[str, Lease], None]
"""Gets ``requested``, ``preparing``, ``ready``, ``failed``, ``reclaimed`` with every change of state, and
``tool_started`` and ``tool_finished`` around every command of a client."""

SETUP_TIMEOUT_S = 600.0
READ_MAX_BYTES = 64 * 1024 * 1024
SAMPLE_S = 5.0
"""A disk sample is good for so long. The engine walks each writable layer for one (7 ms for nine small containers)."""
CONCURRENT_RECLAIMS = 8


class EnvironmentManager:
    """Leases of one node, on one back-end."""

    def __init__(
        self,
        settings: ToolEnvironmentSpec,
        ledger: LeaseLedger,
        node_dir: Path,
        node: str,
        *,
        on_event: OnEvent = lambda kind, lease: None,
        progress: Progress = lambda line: None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._node_dir = node_dir
        self._node = node
        self._on_event = on_event
        self._progress = progress
        self._backend: Backend | None = None
        self._creates = asyncio.Semaphore(settings.concurrent_creates)
        self._reclaims = asyncio.Semaphore(CONCURRENT_RECLAIMS)
        self._wanted: dict[str, Wanted] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._work: dict[str, set[asyncio.Task[Any]]] = {}
        self._usage: tuple[float, DiskUsage] | None = None
        self._sampling = asyncio.Lock()
        self._closed = False

    @property
    def backend(self) -> Backend:
        if self._backend is None:
            raise EnvironmentFailure("the environment manager was not started")
        return self._backend

    @property
    def notice(self) -> str | None:
        """What the person should know about where tools run."""
        return self.backend.notice

    async def start(self, *, take_over: bool = False) -> None:
        """Choose the back-end, and clear away what an earlier daemon of this node left.

        ``take_over``: its programs live on, so environments that are ready stay theirs.
        ``PreflightError`` if the profile insists on a back-end that cannot be used.
        """
        self._backend = await self._choose()
        await self._clear_inheritance(take_over=take_over)

    async def _choose(self) -> Backend:
        why = "the profile asks for the local back-end"
        if self._settings.backend != "local":
            docker = DockerBackend(paths.owner(), self._node, progress=self._progress)
            missing = await docker.available()
            if missing is None:
                return docker
            await docker.close()
            if self._settings.backend == "docker":
                raise PreflightError(
                    missing, hint="start the engine, or set environments.backend to auto or local in the profile"
                )
            why = missing
        local = LocalBackend(self._node_dir)
        missing = await local.available()
        if missing is not None:
            raise PreflightError(missing)
        self._progress(f"tools run in local folders ({why})")
        return local

    async def _clear_inheritance(self, *, take_over: bool) -> None:
        """Leases still open at the start belonged to a daemon that is dead: nobody else will give them back."""
        for lease in self._ledger.leases():
            if lease.state == "reclaimed":
                continue
            if take_over and lease.backend == self.backend.name and await self._taken_over(lease):
                continue
            if lease.backend == self.backend.name:
                await self._give_up(lease.id)
            elif lease.active:  # on a back-end that cannot be reached now: no longer protected from `gc`
                self._moved(lease.id, "failed")

    async def _taken_over(self, lease: Lease) -> bool:
        """Go on with an environment that is ready. A command that the dead daemon ran in it ends: nobody listens."""
        spec = self._ledger.spec(lease.id)
        if spec is None or lease.place is None or lease.state not in ("ready", "in_use"):
            return False
        try:
            self._wanted[lease.id] = wanted_from_json(spec)
        except msgspec.MsgspecError:
            return False
        self._turns[lease.id] = asyncio.Lock()
        if lease.backend == "local":  # in a container the command's own deadline ends it
            await asyncio.to_thread(kill_marked, lease.id)
        return True

    async def request(self, program: str, run: str, spec: EnvironmentSpec) -> Lease:
        """A ready environment for ``program``. Cancelled or failed, it leaves nothing behind."""
        if self._closed:
            raise EnvironmentFailure("the environment manager is closing")
        wanted = self._decide(spec)
        lease = self._ledger.open(program, run, self.backend.name, wanted.image)
        self._ledger.note_spec(lease.id, wanted_to_json(wanted))
        self._wanted[lease.id] = wanted
        self._turns[lease.id] = asyncio.Lock()
        self._on_event("requested", lease)
        try:
            return await self._tracked(lease.id, self._prepare(lease, wanted))
        except asyncio.CancelledError:
            await to_the_end(self._give_up(lease.id))
            raise
        except Exception as error:
            await to_the_end(self._give_up(lease.id))
            if isinstance(error, ThunderError):
                raise
            raise EnvironmentFailure(
                f"the environment of {program} could not be prepared: {describe(error)}"
            ) from error

    async def execute(
        self, lease_id: str, command: str, timeout_s: float | None = None, env: Mapping[str, str] | None = None
    ) -> ExecResult:
        """Run ``command``; its deadline is ``timeout_s``, else the spec's. Cancelled, the command is killed."""
        lease, wanted = self._usable(lease_id)
        deadline = wanted.limits.exec_timeout_s if timeout_s is None else timeout_s
        return await self._tracked(lease_id, self._execute(lease, wanted, command, deadline, env or {}))

    async def put_files(self, lease_id: str, contents: Mapping[str, bytes]) -> None:
        """Write files below the working directory; a path that leaves it is refused."""
        lease, wanted = self._usable(lease_id)
        async with self._turns[lease_id]:
            await self.backend.put_files(lease, wanted, contents)

    async def read_file(self, lease_id: str, path: str, max_bytes: int = READ_MAX_BYTES) -> bytes:
        """A file below the working directory; links are not followed."""
        lease, wanted = self._usable(lease_id)
        async with self._turns[lease_id]:
            return await self.backend.read_file(lease, wanted, path, max_bytes)

    async def release(self, lease_id: str) -> Lease:
        """Reclaim an environment; what still runs in it is killed. Reclaimed already is fine."""
        lease = self._ledger.get(lease_id)
        mine = asyncio.current_task()
        running = {task for task in self._work.get(lease_id, ()) if task is not mine}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        lease = self._ledger.get(lease_id)
        if lease.state == "reclaimed":
            return lease
        async with self._reclaims:
            await self.backend.reclaim(lease)
        return self._over(lease_id)

    async def release_program(self, program: str) -> None:
        """Reclaim every environment that ``program`` still has."""
        await self._release_all(self._ledger.leases(active=True, program=program))

    async def disk_usage(self) -> DiskUsage:
        """Bytes that environments hold now; a sample up to ``SAMPLE_S`` old. It is noted per lease in the ledger."""
        async with self._sampling:
            if self._usage is None or time.monotonic() - self._usage[0] > SAMPLE_S:
                per_lease, by_kind = await self.backend.sizes()
                self._ledger.measured(per_lease.items())
                self._usage = (time.monotonic(), DiskUsage(sum(by_kind.values()), by_kind))
            return self._usage[1]

    def leases(self, *, active: bool | None = None) -> list[Lease]:
        return self._ledger.leases(active=active)

    async def close(self) -> None:
        """Reclaim everything that is still held, then let the back-end go. Closing twice is fine."""
        if self._closed or self._backend is None:
            return
        self._closed = True
        try:
            await to_the_end(self._release_all([x for x in self._ledger.leases() if x.id in self._wanted]))
        finally:
            await self._backend.close()

    def _decide(self, spec: EnvironmentSpec) -> Wanted:
        image = None
        if self.backend.name == "docker":
            image = self._settings.image or spec.image or BASE
        return Wanted(
            spec=spec,
            limits=spec.limits or Limits.from_settings(self._settings),
            network=spec.network or self._settings.network,
            image=image,
        )

    async def _prepare(self, lease: Lease, wanted: Wanted) -> Lease:
        async with self._creates:
            lease = self._moved(lease.id, "preparing")
            place = await self.backend.prepare(lease, wanted)
            lease = self._ledger.note_place(lease.id, place)
            for command in wanted.spec.setup:
                await self._step(lease, wanted, command, "the set-up command", {})
            if wanted.spec.git:
                await self._step(lease, wanted, COMMIT, "the first commit", COMMIT_ENV)
            return self._moved(lease.id, "ready")

    async def _step(self, lease: Lease, wanted: Wanted, command: str, what: str, env: Mapping[str, str]) -> None:
        done = await self.backend.exec(lease, wanted, command, SETUP_TIMEOUT_S, env)
        if done.returncode:
            raise EnvironmentFailure(
                f"{what} of the environment ended with {done.returncode}: {command}",
                details=done.output.splitlines()[-10:],
            )

    async def _execute(
        self, lease: Lease, wanted: Wanted, command: str, timeout_s: float, env: Mapping[str, str]
    ) -> ExecResult:
        async with self._turns[lease.id]:
            if self._ledger.get(lease.id).state == "ready":
                lease = self._moved(lease.id, "in_use")
            self._on_event("tool_started", lease)
            try:
                return await self.backend.exec(lease, wanted, command, timeout_s, env)
            finally:
                self._on_event("tool_finished", lease)

    async def _tracked(self, lease_id: str, work: Coroutine[Any, Any, T]) -> T:
        """Do ``work`` so that :meth:`release` can cut it short, and so that nobody leaves before it has ended."""
        task = asyncio.create_task(work)
        under_way = self._work.setdefault(lease_id, set())
        under_way.add(task)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await to_the_end(asyncio.wait([task]))
            raise
        finally:
            under_way.discard(task)
            if not under_way and self._work.get(lease_id) is under_way:
                del self._work[lease_id]
        if task.cancelled():
            raise EnvironmentFailure(f"lease {lease_id} was released in the meantime")
        return task.result()

    async def _give_up(self, lease_id: str) -> None:
        """A preparation failed: say so, remove what it made; what cannot be removed stays ``failed`` for ``gc``."""
        if self._ledger.get(lease_id).active:
            self._moved(lease_id, "failed")
        with contextlib.suppress(ThunderError):
            await self.release(lease_id)

    def _usable(self, lease_id: str) -> tuple[Lease, Wanted]:
        lease = self._ledger.get(lease_id)
        if lease.state not in ("ready", "in_use") or lease_id not in self._wanted:
            raise EnvironmentFailure(f"lease {lease_id} is {lease.state}; nothing can be done in it")
        return lease, self._wanted[lease_id]

    def _moved(self, lease_id: str, state: State) -> Lease:
        lease = self._ledger.move(lease_id, state)
        self._on_event(state, lease)
        return lease

    def _over(self, lease_id: str) -> Lease:
        self._wanted.pop(lease_id, None)
        self._turns.pop(lease_id, None)
        self._usage = None
        if self._ledger.get(lease_id).state == "reclaimed":  # two releases at once
            return self._ledger.get(lease_id)
        return self._moved(lease_id, "reclaimed")

    async def _release_all(self, leases: list[Lease]) -> None:
        done = await asyncio.gather(*(self.release(lease.id) for lease in leases), return_exceptions=True)
        failed = [error for error in done if isinstance(error, BaseException)]
        if failed:
            raise EnvironmentFailure(
                f"{len(failed)} of {len(leases)} environments could not be reclaimed",
                hint="`thunderctl gc` removes them later",
                details=[describe(error) for error in failed],
            )
