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
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from thunderctl import paths
from thunderctl.environments.backend import (
    COMMIT,
    COMMIT_ENV,
    Backend,
    Death,
    Made,
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
from thunderctl.environments.pulls import PullLimits
from thunderctl.environments.spec import DiskUsage, EnvironmentSpec, ExecResult, Limits
from thunderctl.errors import EnvironmentFailure, PreflightError, ThunderError
from thunderctl.profile import ToolEnvironmentSpec

T = TypeVar("T")

OnEvent = Callable[[str, Lease], None]
"""Gets ``requested``, ``preparing``, ``ready``, ``failed``, ``reclaimed`` with every change of state, and
``tool_started`` and ``tool_finished`` around the time in which a client's commands run."""

SETUP_TIMEOUT_S = 600.0
READ_MAX_BYTES = 64 * 1024 * 1024
SAMPLE_S = 5.0
"""A disk sample is good for so long. It takes 9 ms for a hundred containers, and 3 µs for each file of those in which
something ran meanwhile."""


WORTH_KEEPING_S = 2.0
"""A set-up that took less is kept only if it is asked for again: keeping it takes about a second, and disk."""
TIDY_S = 2.0
"""Between the end of an environment and the look at which images may go: many ends are one look."""


@dataclass(slots=True)
class Stock:
    """Environments that are kept ready for whoever asks for one of their kind."""

    run: str
    spec: EnvironmentSpec
    count: int
    ready: deque[str] = field(default_factory=deque)
    coming: int = 0


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
        self._background: set[asyncio.Task[Any]] = set()
        self._stocks: dict[bytes, Stock] = {}
        """By what their environments have in common: everything but files, set-up and first commit."""
        self._asked: Counter[bytes] = Counter()
        """How often an environment with this very set-up was asked for."""
        self._set_ups: dict[bytes, asyncio.Lock] = {}
        self._was_set_up: set[bytes] = set()
        self._untidy: dict[str, None] = {}
        """Runs that may need fewer images than before."""
        self._tidying: asyncio.Task[None] | None = None
        self._tidy_turn = asyncio.Lock()
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
        self._backend = await self._choose()
        await self._clear_inheritance(take_over=take_over)
        self._watching = asyncio.create_task(self._backend.watch(self._died))

    def _died(self, death: Death) -> None:
        """A container ended that was not to: every lease of it fails now, and each later command at once."""
        for lease in self._ledger.leases(active=True):
            if lease.place == death.place or lease.id == death.lease:
                self.end(lease.id, death.why)

    async def _choose(self) -> Backend:
        why = "the profile asks for the local back-end"
        if self._settings.backend != "local":
            limits = PullLimits.from_settings(self._settings)
            docker = DockerBackend(paths.owner(), self._node, progress=self._progress, pulls=limits)
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
        if spec.setup:
            self._asked[wanted_to_json(wanted)] += 1
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
        self, lease_id: str, command: str, timeout_s: float | None = None, env: Mapping[str, str] | None = None
    ) -> ExecResult:
        """Run ``command`` as soon as the environment is ready; its deadline is ``timeout_s``, else the spec's.

        Cancelled, the command is killed.
        """
        await self.ready(lease_id)
        lease, wanted = self._usable(lease_id)
        deadline = wanted.limits.exec_timeout_s if timeout_s is None else timeout_s
        return await self._tracked(lease_id, self._execute(lease, wanted, command, deadline, env or {}))

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
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        try:
            await to_the_end(self._release_all([x for x in self._ledger.leases() if x.id in self._wanted]))
            if self._tidying is not None:
                self._tidying.cancel()
            while self._background:
                await to_the_end(asyncio.wait(set(self._background)))
            await to_the_end(self._tidy())
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
        async with self._first_of_its_kind(wanted), self._creates:
            lease = self._moved(lease.id, "preparing")
            await self._make_room()
            made = await self._from_stock(lease, wanted) or await self.backend.prepare(lease, wanted)
            lease = self._ledger.note_place(lease.id, made.place)
            if not made.complete:
                await self._set_up(lease, wanted)
            self._ends_in_time(lease.id)
            self._tidy_soon(lease.run)
            return self._moved(lease.id, "ready")

    async def _set_up(self, lease: Lease, wanted: Wanted) -> None:
        began = time.monotonic()
        for command in wanted.spec.setup:
            await self._step(lease, wanted, command, "the set-up command", {})
        if wanted.spec.git:
            await self._step(lease, wanted, COMMIT, "the first commit", COMMIT_ENV)
        often = self._asked[wanted_to_json(wanted)] > 1
        if wanted.spec.setup and (often or time.monotonic() - began > WORTH_KEEPING_S):
            await self.backend.keep(lease, wanted)

    @contextlib.asynccontextmanager
    async def _first_of_its_kind(self, wanted: Wanted) -> AsyncIterator[None]:
        """Where set-up can be kept, one does it and the others wait for what it keeps."""
        if not wanted.spec.setup or self.backend.name != "docker":
            yield
            return
        kind = wanted_to_json(wanted)
        async with self._set_ups.setdefault(kind, asyncio.Lock()):
            if kind not in self._was_set_up:
                yield
                self._was_set_up.add(kind)
                return
        yield

    # ------------------------------------------------------------------ kept ready for whoever comes

    def keep_warm(self, run: str, spec: EnvironmentSpec, count: int) -> None:
        """From now on have ``count`` environments like ``spec`` ready, without files and set-up, until ``run`` is over.

        Whoever asks for one of their kind gets it and adds its own. Local folders are made in no time: none are kept.
        """
        if self.backend.name != "docker" or self._closed:
            return
        bare = _bare(spec)
        stock = self._stocks.setdefault(self._kind(bare), Stock(run, bare, count))
        stock.run, stock.count = run, count
        self._refill(stock)

    async def run_over(self, run: str) -> None:
        """``run`` has ended: what was kept ready for it goes, and images as the profile says."""
        leases = []
        for kind, stock in list(self._stocks.items()):
            if stock.run == run:
                del self._stocks[kind]
                stock.count = 0
                leases += [lease for lease in map(self._ledger.get, stock.ready) if lease.active]
        await self._release_all(leases)
        self._tidy_soon(run)

    def _kind(self, bare: EnvironmentSpec) -> bytes:
        return wanted_to_json(self._decide(bare))

    def _refill(self, stock: Stock) -> None:
        while not self._closed and len(stock.ready) + stock.coming < stock.count:
            stock.coming += 1
            self._spawn(self._make_one(stock))

    async def _make_one(self, stock: Stock) -> None:
        lease = self.announce("", stock.run, stock.spec)
        try:
            await self.ready(lease.id)
        finally:
            stock.coming -= 1
        if stock.count:
            stock.ready.append(lease.id)
        else:  # nobody wants it any more
            await self.release(lease.id)

    async def _from_stock(self, lease: Lease, wanted: Wanted) -> Made | None:
        """A place that was kept ready, with the files of ``wanted`` in it."""
        stock = self._stocks.get(self._kind(_bare(wanted.spec))) if lease.program else None
        while stock is not None and stock.ready:
            warm = stock.ready.popleft()
            if self._ledger.lend(warm, lease.program, lease.run):
                self._refill(stock)
                place = self._ledger.get(warm).place
                assert place is not None, warm  # noqa: S101 - it is ready
                await self.backend.fill(self._ledger.note_place(lease.id, place), wanted)
                return Made(place)
        return None

    # ------------------------------------------------------------------ images that nobody needs

    def _tidy_soon(self, run: str) -> None:
        if self._settings.image_policy == "keep":
            return
        self._untidy[run if self._settings.image_policy == "run" else ""] = None
        if not self._closed and (self._tidying is None or self._tidying.done()):
            self._tidying = self._spawn(self._tidy(TIDY_S))

    async def _make_room(self) -> None:
        """Under a budget, what may go goes before the next image comes: removing can be slower than bringing."""
        if self._settings.image_policy == "budget":
            self._untidy[""] = None
            await self._tidy()

    async def _tidy(self, after_s: float = 0.0) -> None:
        await asyncio.sleep(after_s)
        async with self._tidy_turn:
            while self._untidy:
                run = next(iter(self._untidy))
                del self._untidy[run]
                try:
                    await self.backend.tidy(self._settings, run)
                except ThunderError as failure:
                    self._progress(f"images could not be tidied up: {failure.message}")

    def _begin(self, lease_id: str) -> asyncio.Task[Lease]:
        """The one task that prepares an environment."""
        task = self._preparing.get(lease_id)
        if task is None:
            task = self._preparing[lease_id] = self._spawn(self._prepare_or_give_up(lease_id))
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

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._landed)
        return task

    def _landed(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; else the lease's state tells

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
            self._spawn(self._give_up(lease_id, why))

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
        if self._ledger.get(lease.id).state == "ready":
            lease = self._moved(lease.id, "in_use")
        before = self._commands.get(lease.id, 0)
        self._commands[lease.id] = before + 1
        if before == 0:
            self._on_event("tool_started", lease)
        try:
            return await self.backend.exec(lease, wanted, command, timeout_s, env)
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
        self._tidy_soon(self._ledger.get(lease_id).run)
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


def _bare(spec: EnvironmentSpec) -> EnvironmentSpec:
    """What environments have in common that differ in files and set-up only."""
    return replace(spec, files=None, setup=(), git=False)
