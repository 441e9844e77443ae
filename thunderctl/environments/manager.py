"""The environment manager: the one door through which the daemon gets, uses and gives back tool environments.

Every lease is in the ledger before its environment exists, and every way out (an answer, a failure, a cancellation)
ends either with a lease that is ready or with nothing. An environment may be announced long before it is prepared;
whoever uses it waits until it is. What a command started ends with it: a tool that needs a server starts it in the same
command.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from thunderctl.environments.backend import (
    Backend,
    Death,
    Progress,
    Wanted,
    describe,
    to_the_end,
    wanted_from_json,
    wanted_to_json,
)
from thunderctl.environments.background import Background
from thunderctl.environments.choose import choose_backend
from thunderctl.environments.images import BASE
from thunderctl.environments.lease import Lease, LeaseLedger, State
from thunderctl.environments.processes import kill_marked
from thunderctl.environments.setup import SetUp
from thunderctl.environments.spec import DiskUsage, EnvironmentSpec, ExecResult, Limits
from thunderctl.environments.stock import Stocks
from thunderctl.environments.tidying import Tidying
from thunderctl.errors import EnvironmentFailure, ThunderError
from thunderctl.profile import ToolEnvironmentSpec

T = TypeVar("T")

OnEvent = Callable[[str, Lease], None]
"""Gets ``requested``, ``preparing``, ``ready``, ``failed``, ``reclaimed`` with every change of state, and
``tool_started`` and ``tool_finished`` around the time in which a client's commands run."""

READ_MAX_BYTES = 64 * 1024 * 1024
SAMPLE_S = 5.0
"""A disk sample is good for so long. It takes 9 ms for a hundred containers, and 3 µs for each file of those in which
something ran meanwhile."""


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
        self._reclaims = asyncio.Semaphore(settings.concurrent_reclaims)
        self._wanted: dict[str, Wanted] = {}
        self._preparing: dict[str, asyncio.Task[Lease]] = {}
        self._commands: dict[str, int] = {}
        """How many commands run, by lease; none has no entry."""
        self._expiry: dict[str, asyncio.TimerHandle] = {}
        self._ends: dict[str, str] = {}
        """Why a lease was ended by us and not by its program."""
        self._background = Background()
        self._watching: asyncio.Task[None] | None = None
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
        backend = await choose_backend(self._settings, self._node, self._node_dir, self._progress)
        self._set_ups = SetUp(backend)
        self._stocks = Stocks(self, backend, self._ledger, self._background)
        self._tidying = Tidying(backend, self._settings, self._progress, self._background)
        self._backend = backend
        await self._clear_inheritance(take_over=take_over)
        self._watching = asyncio.create_task(self._backend.watch(self._died))

    def _died(self, death: Death) -> None:
        """A container ended that was not to: every lease of it fails now, and each later command at once."""
        for lease in self._ledger.leases(active=True):
            if lease.place == death.place or lease.id == death.lease:
                self.end(lease.id, death.why)

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
        """Go on with an environment that is ready, or still to be made. A command that the dead daemon ran in it ends:
        nobody listens."""
        spec = self._ledger.spec(lease.id)
        if spec is None or not lease.active:
            return False
        try:
            wanted = wanted_from_json(spec)
        except msgspec.MsgspecError:
            return False
        if lease.state == "preparing":  # what was made of it may be anything: begin anew
            try:
                await self.backend.reclaim(lease)
            except ThunderError:
                return False
            self._moved(lease.id, "requested")
        self._wanted[lease.id] = wanted
        if lease.state in ("requested", "preparing"):
            return True
        self._ends_in_time(lease.id)
        if lease.backend == "local":  # in a container the command's own deadline ends it
            await asyncio.to_thread(kill_marked, lease.id)
        return True

    def announce(self, program: str, run: str, spec: EnvironmentSpec) -> Lease:
        """A lease of an environment that ``program`` will use later; nothing is prepared before somebody says so."""
        if self._closed:
            raise EnvironmentFailure("the environment manager is closing")
        wanted = self._decide(spec)
        lease = self._ledger.open(program, run, self.backend.name, wanted.image)
        self._ledger.note_spec(lease.id, wanted_to_json(wanted))
        self._set_ups.asked(wanted)
        self._wanted[lease.id] = wanted
        self._on_event("requested", lease)
        return lease

    def prepare_program(self, program: str) -> None:
        """Begin to prepare whatever ``program`` has announced; does not wait for it."""
        for lease in self._ledger.leases(active=True, program=program):
            if lease.state == "requested" and lease.id in self._wanted:
                self._begin(lease.id)

    async def ready(self, lease_id: str) -> Lease:
        """The lease, once its environment is ready; begins to prepare it if nobody did."""
        lease = self._ledger.get(lease_id)
        if lease.state in ("requested", "preparing") and lease_id in self._wanted:
            return await asyncio.shield(self._begin(lease_id))
        return self._usable(lease_id)[0]

    async def request(self, program: str, run: str, spec: EnvironmentSpec) -> Lease:
        """A ready environment for ``program``. Cancelled or failed, it leaves nothing behind."""
        lease = self.announce(program, run, spec)
        try:
            return await self.ready(lease.id)
        except asyncio.CancelledError:
            await to_the_end(self._give_up(lease.id))
            raise

    def seconds_to_prepare(self, lease_id: str) -> float:
        """How long the environment took from ``preparing`` to ``ready``; 0 if it is not ready."""
        at = dict(self._ledger.moves(lease_id))
        return at["ready"] - at["preparing"] if "ready" in at and "preparing" in at else 0.0

    async def execute(
        self,
        lease_id: str,
        command: str,
        timeout_s: float | None = None,
        env: Mapping[str, str] | None = None,
        *,
        background: bool = False,
    ) -> ExecResult:
        """Run ``command`` as soon as the environment is ready; its deadline is ``timeout_s``, else the spec's.

        Cancelled, the command is killed. ``background``: it serves others and is no tool that starts and ends.
        """
        await self.ready(lease_id)
        lease, wanted = self._usable(lease_id)
        deadline = wanted.limits.exec_timeout_s if timeout_s is None else timeout_s
        if lease.state == "ready":
            lease = self._moved(lease_id, "in_use")

        async def run() -> ExecResult:
            return await self.backend.exec(lease, wanted, command, deadline, env or {})

        return await self._tracked(lease_id, run() if background else self._execute(lease, run))

    async def put_files(self, lease_id: str, contents: Mapping[str, bytes]) -> None:
        """Write files below the working directory; a path that leaves it is refused."""
        await self.ready(lease_id)
        lease, wanted = self._usable(lease_id)
        await self.backend.put_files(lease, wanted, contents)

    async def read_file(self, lease_id: str, path: str, max_bytes: int = READ_MAX_BYTES) -> bytes:
        """A file below the working directory; links are not followed."""
        await self.ready(lease_id)
        lease, wanted = self._usable(lease_id)
        return await self.backend.read_file(lease, wanted, path, max_bytes)

    async def release(self, lease_id: str, why: str = "") -> Lease:
        """Reclaim an environment; what still runs in it is killed. Reclaimed already is fine.

        ``why`` is what its program is told should it still want to use it.
        """
        lease = self._ledger.get(lease_id)
        if why and lease.state != "reclaimed":
            self._ends[lease_id] = why
        mine = asyncio.current_task()
        running = {task for task in self._work.get(lease_id, ()) if task is not mine}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        lease = self._ledger.get(lease_id)
        if lease.state == "reclaimed":
            return lease
        if lease.state != "requested":  # of which nothing exists yet
            async with self._reclaims:
                await self._reclaim(lease)
        lease = self._over(lease_id)
        for lent in self._ledger.leases(active=True, program=lease.program) if lease.place else ():
            if lent.place == lease.place:  # it was kept ready under a lease of its own
                await self.release(lent.id)
        return lease

    async def _reclaim(self, lease: Lease) -> None:
        try:
            await self.backend.reclaim(lease)
        except ThunderError:  # nobody uses it any more: what is left of it is for `gc`, which spares active leases
            if self._ledger.get(lease.id).active:
                self._moved(lease.id, "failed")
            raise

    async def release_program(self, program: str) -> None:
        """Reclaim every environment that ``program`` still has."""
        await self._release_all(self._ledger.leases(active=True, program=program))

    async def disk_usage(self, max_age_s: float = SAMPLE_S) -> DiskUsage:
        """Bytes that environments hold; a sample up to ``max_age_s`` old. It is noted per lease in the ledger."""
        async with self._sampling:
            if self._usage is None or time.monotonic() - self._usage[0] > max_age_s:
                held = await self.backend.sizes()
                self._ledger.measured(held.by_lease.items())
                collected = self._ledger.reclaimed_bytes() + held.gone_images
                self._usage = (time.monotonic(), DiskUsage(sum(held.by_kind.values()), held.by_kind, collected))
            return self._usage[1]

    def leases(self, *, active: bool | None = None) -> list[Lease]:
        return self._ledger.leases(active=active)

    def story(self, lease_id: str) -> tuple[Lease, Wanted | None, list[tuple[State, float]]]:
        """A lease, what it was asked for (if it can still be read), and every state with its moment."""
        lease, said = self._ledger.get(lease_id), self._ledger.spec(lease_id)
        try:
            wanted = None if said is None else wanted_from_json(said)
        except msgspec.MsgspecError:  # another version's
            wanted = None
        return lease, wanted, self._ledger.moves(lease_id)

    async def close(self) -> None:
        """Reclaim everything that is still held, then let the back-end go. Closing twice is fine."""
        if self._closed or self._backend is None:
            return
        self._closed = True
        self._stocks.close()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        try:
            await to_the_end(self._release_all([x for x in self._ledger.leases() if x.id in self._wanted]))
            self._tidying.stop()
            await self._background.finish()
            await self._tidying.finish()
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
        async with self._set_ups.turn(wanted), self._creates:
            lease = self._moved(lease.id, "preparing")
            await self._tidying.make_room()
            made = await self._stocks.take(lease, wanted) or await self.backend.prepare(lease, wanted)
            lease = self._ledger.note_place(lease.id, made.place)
            if not made.complete:
                await self._set_ups.carry_out(lease, wanted)
            self._ends_in_time(lease.id)
            self._tidying.soon(lease.run)
            return self._moved(lease.id, "ready")

    # ------------------------------------------------------------------ kept ready for whoever comes

    def keep_warm(self, run: str, spec: EnvironmentSpec, count: int) -> None:
        """From now on have ``count`` environments like ``spec`` ready, without files and set-up, until ``run`` is over.

        Whoever asks for one of their kind gets it and adds its own. Local folders are made in no time: none are kept.
        """
        if self.backend.name != "docker" or self._closed:
            return
        self._stocks.keep(run, spec, count)

    async def run_over(self, run: str) -> None:
        """``run`` has ended: what was kept ready for it goes, and images as the profile says."""
        await self._release_all(self._stocks.drop(run))
        self._tidying.soon(run)

    def kind(self, spec: EnvironmentSpec) -> bytes:
        """The same for environments that can stand in for one another."""
        return wanted_to_json(self._decide(spec))

    def _begin(self, lease_id: str) -> asyncio.Task[Lease]:
        """The one task that prepares an environment."""
        task = self._preparing.get(lease_id)
        if task is None:
            task = self._preparing[lease_id] = self._background.spawn(self._prepare_or_give_up(lease_id))
            task.add_done_callback(lambda _: self._preparing.pop(lease_id, None))
        return task

    async def _prepare_or_give_up(self, lease_id: str) -> Lease:
        lease, wanted = self._ledger.get(lease_id), self._wanted[lease_id]
        try:
            return await self._tracked(lease_id, self._prepare(lease, wanted))
        except BaseException as error:
            await to_the_end(self._give_up(lease_id, describe(error)))
            if isinstance(error, ThunderError | asyncio.CancelledError):
                raise
            raise EnvironmentFailure(
                f"the environment of {lease.program} could not be prepared: {describe(error)}"
            ) from error

    def _ends_in_time(self, lease_id: str) -> None:
        """See to it that the environment does not outlive ``limits.wall_s``."""
        at = dict(self._ledger.moves(lease_id))
        wall_s = self._wanted[lease_id].limits.wall_s
        left = at.get("ready", time.time()) + wall_s - time.time()
        self._expiry[lease_id] = asyncio.get_running_loop().call_later(
            max(0.0, left), self.end, lease_id, f"it was ended after {wall_s:g} s (environments.wall_s)"
        )

    def end(self, lease_id: str, why: str) -> None:
        """The environment cannot be used any longer: its lease fails, and what is left of it goes. Not waited for."""
        lease = self._ledger.find(lease_id)
        if lease is not None and lease.active and lease_id in self._wanted:
            self._background.spawn(self._give_up(lease_id, why))

    async def _execute(self, lease: Lease, run: Callable[[], Awaitable[ExecResult]]) -> ExecResult:
        """Run a command of the program's, and say when its tools start and end."""
        before = self._commands.get(lease.id, 0)
        self._commands[lease.id] = before + 1
        if before == 0:
            self._on_event("tool_started", lease)
        try:
            return await run()
        finally:
            self._commands[lease.id] -= 1
            if not self._commands[lease.id]:
                del self._commands[lease.id]
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
            why = self._ends.get(lease_id, "it was released in the meantime")
            raise EnvironmentFailure(f"nothing more can be done in lease {lease_id}: {why}")
        return task.result()

    async def _give_up(self, lease_id: str, why: str = "") -> None:
        """Its environment failed: say so, remove what is there; what cannot be removed stays ``failed`` for ``gc``."""
        if self._ledger.get(lease_id).active:
            if why:
                self._ends[lease_id] = why
            self._moved(lease_id, "failed")
        with contextlib.suppress(ThunderError):
            await self.release(lease_id)

    def _usable(self, lease_id: str) -> tuple[Lease, Wanted]:
        lease = self._ledger.get(lease_id)
        if lease.state not in ("ready", "in_use") or lease_id not in self._wanted:
            why = f": {self._ends[lease_id]}" if lease_id in self._ends else ""
            raise EnvironmentFailure(f"lease {lease_id} is {lease.state}; nothing can be done in it{why}")
        return lease, self._wanted[lease_id]

    def _moved(self, lease_id: str, state: State) -> Lease:
        lease = self._ledger.move(lease_id, state)
        self._on_event(state, lease)
        return lease

    def _over(self, lease_id: str) -> Lease:
        self._wanted.pop(lease_id, None)
        if (timer := self._expiry.pop(lease_id, None)) is not None:
            timer.cancel()
        self._usage = None
        self._tidying.soon(self._ledger.get(lease_id).run)
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
