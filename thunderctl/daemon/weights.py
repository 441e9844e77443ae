"""Changing the model's weights while agents work: close the gate, empty the engines, load, forget caches, open again.

The rule: whenever the gate is open, every worker that is given calls holds the weights of the version in force,
whatever failed before. What cannot be brought to it is taken out. What is under way stands in ``state.db`` first, so
that the daemon after a SIGKILL can finish it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Coroutine, Set
from pathlib import Path
from typing import Any, Protocol

import msgspec

from thunderctl.core import events as ev
from thunderctl.daemon.gate import Gate, Mode
from thunderctl.daemon.journal import Journal
from thunderctl.daemon.shell import Shell
from thunderctl.daemon.standing import Standing, mark_of
from thunderctl.errors import DaemonError, EngineError, UsageError
from thunderctl.profile import Profile
from thunderctl.workers.doors import AllDoors, Doors, check_weights

log = logging.getLogger("thunderctl.weights")

AGAIN_S = 0.25
"""A call may reach its engine just after that was told to cut everything off: it is told again, once in so long."""


class Workers(Protocol):
    """What is asked of whoever keeps the workers' processes."""

    def admit(self, name: str) -> None:
        """Give it calls."""

    async def withdraw(self, name: str) -> None:
        """Give it no calls; it goes on running."""

    async def end(self, name: str) -> None:
        """Withdraw it and end its process; another one takes its place."""


class Weights:
    """Of one node. ``source``: the folder that its workers load when they start; ``None`` if there is none."""

    def __init__(self, profile: Profile, source: str | None, gate: Gate, shell: Shell, journal: Journal) -> None:
        self._enabled = profile.workers.weight_updates
        self._limit_s = profile.workers.weight_update_timeout_s
        self._any_folder = profile.engine.kind == "emulated"
        self._gate = gate
        self._shell = shell
        self._journal = journal
        known = journal.weights()
        self._standing = msgspec.convert(known, Standing) if known else Standing(source=source, mark=mark_of(source))
        self._out = dict(self._standing.out)
        gate.version = self._standing.version
        self._workers: Workers | None = None
        self._doors = AllDoors()
        self._turn = asyncio.Lock()
        self._busy = False
        """A trainer changes something."""
        self._began = 0.0
        self._expiry: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def serve(self, workers: Workers) -> None:
        """Look after the weights of these workers."""
        self._workers = workers

    @property
    def version(self) -> int:
        """Of the weights in force."""
        return self._standing.version

    def row(self) -> dict[str, Any]:
        """What there is to know, as JSON."""
        standing = self._standing
        state = {"load": "loading", "transfer": "transfer", None: "steady"}[standing.under_way]
        return {
            "version": standing.version,
            "enabled": self._enabled,
            "state": "pausing" if state == "steady" and self._gate.mode is not None else state,
            "mode": self._gate.mode,
            "source": standing.source,
            "deadline_in_s": round(standing.deadline - time.time(), 1) if state == "transfer" else None,
            "calls_inside": self._gate.inside,
            "calls_waiting": self._gate.waiting,
            "workers": [
                {"name": name, "url": url, "in_force": name not in self._out, "why_not": self._out.get(name)}
                for name, url in sorted(self._doors.urls.items())
            ],
        }

    # ------------------------------------------------------------------ what a trainer asks

    async def update(self, path: str, mode: Mode, version: int | None) -> dict[str, Any]:
        """All of it: pause, load the weights in the folder ``path`` everywhere, forget caches, go on.

        ``version`` is the number of the new weights; without it the next one. The version in force, from the folder
        that it came from, is there already: nothing happens.

        Raises:
            UsageError: it cannot be done as asked; nothing was changed.
            EngineError: calls in flight did not end, and nothing was changed; or no worker could load the weights. The
                old version is in force then, and those that failed start anew.
        """
        source, standing = str(Path(path).expanduser()), self._standing
        if not Path(source).is_absolute():
            raise UsageError(f"path: {path} is not absolute", hint="the daemon may run in another folder")
        if standing.is_already(version, source):
            return self._told({}, 0.0, 0, mode)
        self._next(version)
        if not (self._any_folder and Path(source).is_dir()):
            await asyncio.to_thread(check_weights, Path(source), Path(standing.source) if standing.source else None)
        mark = await asyncio.to_thread(mark_of, source)
        async with self._alone():
            target = self._next(version)
            await self._pause(mode)
            names = self._doors.names
            await self._note_first(self._standing.loading(target, source, mark, mode))
            failed = await self._doors.load(names, source)
            return await self._change(Standing(target, source, mark, mode=mode), names, failed)

    async def begin(self, mode: Mode) -> dict[str, Any]:
        """Pause, for a trainer that transfers weights by itself to the workers that the answer names."""
        async with self._alone():
            await self._pause(mode)
            deadline = time.time() + self._limit_s
            await self._note_first(self._standing.transferring(mode, deadline, frozenset(self._doors.names)))
            self._watch_deadline()
            return {
                "version": self.version,
                "mode": mode,
                "aborted": self._gate.cut_off,
                "timeout_s": self._limit_s,
                "workers": dict(sorted(self._doors.urls.items())),
            }

    async def end(self, version: int | None) -> dict[str, Any]:
        """The trainer's transfer is complete on all workers that :meth:`begin` named."""
        if self._standing.is_already(version, None):
            return self._told({}, 0.0, 0, self._standing.mode)
        async with self._alone(transfer=True):
            target = self._next(version)
            self._stop_watching()
            names = self._standing.with_trainer & self._doors.names
            failed = await self._doors.each(names, Doors.drop_cache)
            return await self._change(Standing(target, mode=self._standing.mode), names, failed)

    async def abandon(self) -> dict[str, Any]:
        """The trainer transferred nothing after all."""
        async with self._alone(transfer=True):
            self._stop_watching()
            self._note(self._standing.in_force())
            return await self._go_on({})

    async def fail(self) -> dict[str, Any]:
        """The trainer's transfer broke off: some workers may have a part of it."""
        async with self._alone(transfer=True):
            return await self._take_back()

    def _next(self, version: int | None) -> int:
        if version is not None and version <= self.version:
            raise UsageError(f"version: {version} is not above {self.version}, which is in force")
        return self.version + 1 if version is None else version

    @contextlib.asynccontextmanager
    async def _alone(self, *, transfer: bool = False) -> AsyncIterator[None]:
        """Only one change at a time. ``transfer``: it goes on with one that was begun, else none may have been."""
        if not self._enabled:
            raise UsageError(
                "this node's workers cannot change their weights",
                hint="its profile wants `workers: {weight_updates: true}`",
            )
        if self._busy:
            raise UsageError("another change of the weights is under way", hint="GET /v1/rollout/weights tells which")
        self._busy = True
        try:
            async with self._turn:  # a worker that starts just now is brought to the version in force before
                if transfer and self._standing.under_way != "transfer":
                    hint = "one that takes longer than its time-out is given up"
                    raise UsageError("no transfer is under way", hint=hint)
                if not transfer and self._standing.under_way is not None:
                    raise UsageError("a transfer of weights is under way", hint="end or abandon it first")
                yield
        finally:
            self._busy = False

    async def to_the_end(self, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        """The result of ``work``, which goes on even if whoever asked for it is gone."""
        result: dict[str, Any] = await asyncio.shield(self._spawn(work))
        return result

    # ------------------------------------------------------------------ the steps

    async def _pause(self, mode: Mode) -> None:
        """Close the gate and empty the engines. If that fails everything goes on as it was: ``EngineError``."""
        if not self._doors.names:
            raise DaemonError("no worker is up", hint="`thunderctl status` tells what they do")
        self._began = time.monotonic()
        deadline = self._began + self._limit_s
        self._gate.close(mode)
        try:
            while (ending := self._gate.must_end()) > 0:
                if time.monotonic() > deadline:
                    raise EngineError(
                        f"{ending} calls were still being answered after {self._limit_s:g} s",
                        hint="mode keep or restart cuts calls off; workers.weight_update_timeout_s allows more time",
                    )
                await self._gate.wait(min(1.0, self._limit_s))
            self._gate.cut()
            while True:
                if refused := await self._doors.each(self._doors.names, Doors.pause):
                    raise EngineError(next(iter(refused.values())))
                if not self._gate.inside:
                    return
                if time.monotonic() > deadline:
                    raise EngineError(f"{self._gate.inside} calls did not end after they were cut off")
                await self._gate.wait(AGAIN_S)
        except BaseException:
            await self._go_on({})
            raise

    async def _change(self, standing: Standing, names: Set[str], failed: dict[str, str]) -> dict[str, Any]:
        """The workers ``names`` have the weights of ``standing`` now, except those that ``failed``."""
        done = names - set(failed)
        for name in done:
            self._out.pop(name, None)
        self._out |= failed  # until they are ended: the daemon after a SIGKILL must not give them calls
        if done:
            for name in self._doors.names - names - set(self._out):
                self._out[name] = f"it started while version {standing.version} was being transferred"
            self._note(standing)
            log.info("weights: version %s is in force (%s)", standing.version, standing.source or "transferred")
        else:
            self._note(self._standing.in_force())
        self._tell()
        answer = await self._go_on(failed)
        if not done:
            raise EngineError(
                f"no worker took over version {standing.version}: version {self.version} stays in force",
                hint="workers that failed start anew",
                details=list(failed.values()),
            )
        return answer

    def _note(self, standing: Standing) -> None:
        """What was done. Where it cannot be written the node goes on all the same: a later daemon does it once more."""
        self._standing = msgspec.structs.replace(standing, out=dict(self._out))
        try:
            self._journal.note_weights(msgspec.to_builtins(self._standing))
        except sqlite3.Error as error:
            log.error("the state of the weights cannot be noted: %s", error)

    async def _note_first(self, standing: Standing) -> None:
        """What is about to be done, once the gate is closed. ``EngineError``: it cannot be written, so is not done."""
        noted = msgspec.structs.replace(standing, out=dict(self._out))
        try:
            self._journal.note_weights(msgspec.to_builtins(noted))
        except sqlite3.Error as error:
            await self._go_on({})
            raise EngineError(f"state.db cannot be written: {error}", hint="is the disk full?") from error
        self._standing = noted

    def _tell(self) -> None:
        """The scheduler hears that nothing is cached."""
        self._shell.submit(ev.WeightsChanged(self.version))
        self._journal.flush()

    async def _go_on(self, failed: dict[str, str]) -> dict[str, Any]:
        """Take those out that failed, and let calls in to all others."""
        assert self._workers is not None  # noqa: S101 - serve() comes first
        await self._bring_in(but=set(failed))
        failed |= await self._doors.each(self._doors.names - set(failed), Doors.resume)
        for name, reason in failed.items():
            log.error("%s is taken out, and started anew: %s", name, reason)
            if self._doors.drop(name):
                await self._workers.end(name)
        for name in self._out:
            await self._workers.withdraw(name)
        for name in self._doors.names - set(self._out):
            self._workers.admit(name)
        cut_off, mode = self._gate.cut_off, self._gate.mode
        self._gate.open(self.version)
        return self._told(failed, time.monotonic() - self._began, cut_off, mode)

    def _told(self, failed: dict[str, str], paused_s: float, aborted: int, mode: Mode | None) -> dict[str, Any]:
        return {
            "version": self.version,
            "mode": mode,
            "paused_s": round(paused_s, 3),
            "aborted": aborted,
            "failed": failed,
        }

    # ------------------------------------------------------------------ a trainer that is gone

    def _watch_deadline(self) -> None:
        self._stop_watching()
        wait_s = max(0.0, self._standing.deadline - time.time())
        self._expiry = asyncio.get_running_loop().call_later(wait_s, self._expire)

    def _stop_watching(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()

    def _expire(self) -> None:
        self._spawn(self._give_up())

    async def _give_up(self) -> None:
        async with self._turn:
            if self._standing.under_way != "transfer":
                return  # it ended just now
            if self._standing.deadline > time.time():
                self._watch_deadline()  # the timer rang a little early, or this is another transfer already
                return
            log.error("the trainer that began a transfer of weights was not heard of again: it is given up")
            await self._take_back()

    async def _take_back(self) -> dict[str, Any]:
        """Nobody knows what a trainer has written by now: the old weights are loaded again."""
        self._stop_watching()
        failed: dict[str, str] = {}
        names = self._standing.with_trainer & self._doors.names  # who started since is brought in with the others
        if (reason := self._standing.why_lost()) is None:
            failed = await self._doors.load(names, str(self._standing.source))
        else:
            self._out |= dict.fromkeys(names, f"a transfer was given up, and {reason}")
        self._out |= failed
        self._note(self._standing.in_force())
        self._tell()
        return await self._go_on(failed)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ------------------------------------------------------------------ workers that come and go

    def forget(self, name: str) -> None:
        """The worker is gone."""
        self._doors.drop(name)
        if name in self._standing.with_trainer:
            self._note(msgspec.structs.replace(self._standing, with_trainer=self._standing.with_trainer - {name}))

    async def started(self, name: str, url: str) -> bool:
        """A worker started anew, with the weights that it begins with. Whether it may be given calls."""
        if not self._enabled:
            return True
        async with self._turn:  # what is being loaded everywhere just now is what it needs
            self._doors.add(name, url)
            reason = None
            if self._standing.under_way == "transfer":
                reason = "it started while weights were being transferred"
            elif self.version:
                reason = self._standing.why_lost() or await self._doors.bring(name, str(self._standing.source))
            self._out.pop(name, None)
            if reason is not None:
                self._out[name] = reason
                log.error("%s is given no calls before the next update: %s", name, reason)
            self._note(self._standing)
            return reason is None

    async def _bring_in(self, but: Set[str]) -> None:
        """Who started during a transfer that came to nothing can be given the version in force after all."""
        names = (set(self._out) & self._doors.names) - but
        if names and self._standing.why_lost() is None:
            for name in names:
                if await self._doors.bring(name, str(self._standing.source)) is None:
                    del self._out[name]
            self._note(self._standing)

    # ------------------------------------------------------------------ after a kill

    async def take_over(self, workers: dict[str, str]) -> tuple[set[str], set[str]]:
        """Workers (name → URL) of a daemon that was killed, maybe in the midst of a change.

        A load that had begun is finished, if a single worker can; a transfer goes on. Returns those that may be given
        calls, and those that are to be ended.
        """
        if not self._enabled:
            return set(workers), set()
        for name, url in workers.items():
            self._doors.add(name, url)
        self._out = {name: why for name, why in self._out.items() if name in workers}
        names, standing = set(workers), self._standing
        failed: dict[str, str] = {}
        if standing.under_way == "transfer":
            self._began = time.monotonic()
            self._gate.close(standing.mode)
            failed = await self._doors.each(names, Doors.pause)
            self._note(msgspec.structs.replace(standing, with_trainer=standing.with_trainer & names))
            self._watch_deadline()
        else:
            if standing.under_way == "load":
                failed = await self._finish(names)
            failed |= await self._doors.each(names - set(failed), Doors.resume)
        for name, reason in failed.items():
            log.error("%s of the killed daemon cannot go on: %s", name, reason)
            self._doors.drop(name)
        if self._shell.scheduler.weights != self.version:
            self._tell()
        return names - set(failed) - set(self._out), set(failed)

    async def _finish(self, names: set[str]) -> dict[str, str]:
        """Do to the end the load that a kill cut short; worker → why it could not be done."""
        target = self._standing.loaded()
        if (reason := target.why_lost()) is not None:
            failed = dict.fromkeys(names, reason)
        else:
            failed = await self._doors.each(names, Doors.pause)
            failed |= await self._doors.load(names - set(failed), str(target.source))
        if names - set(failed):
            self._out.clear()
        else:
            target = self._standing.in_force()
        self._note(target)
        self._gate.version = target.version
        log.warning("a kill cut a change of weights short: version %s is in force", target.version)
        return failed

    async def close(self) -> None:
        """Stop whatever is under way, and let everybody through to what awaits them."""
        self._stop_watching()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._gate.mode is not None:
            self._gate.open(self.version)
        await self._doors.close()
