"""Commands in containers: each has a deadline and a limit on the disk, several may run in one, and each ends alone.

This module knows which commands run where; how one is wrapped and ended stands in :mod:`wrapper`. Whoever ends all of
a container's tools has its gate, so that no command begins under the blow.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from thunderctl.environments import wrapper
from thunderctl.environments.backend import to_the_end
from thunderctl.environments.container import ToolUser, how_it_ended
from thunderctl.environments.engine import ContainerGone, EngineConnection
from thunderctl.environments.output import HeadTail
from thunderctl.environments.processes import COMMAND_MARK
from thunderctl.environments.sizes import FolderSizes, told_full
from thunderctl.environments.spec import ExecResult, Limits
from thunderctl.errors import EnvironmentFailure

LATE_S = 10
"""Seconds past the deadline until a command is ended from outside: it killed the wrapper that watched over it."""
_BIRTHS = 5
"""A command that another one's end killed before it began is started again, at most so often in all."""
_SWEPT = (0, 1)
"""What ends tools says 1 if there were none. Anything else: it did not run, as tools may have replaced the shell."""
_KILLED = 137
_ENDED_BY_SIGNAL = 128


@dataclass(slots=True)
class _Place:
    """What runs in one container. Whoever has the gate decides alone: to begin a command, or to end all of them."""

    gate: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: dict[str, None] = field(default_factory=dict)
    stopped: bool = False
    """Its tools could not be ended otherwise."""


@dataclass(slots=True)
class _Talk:
    """What came back from one start of a command."""

    output: HeadTail
    begun: bool = False
    code: int | None = None
    seconds: float = 0.0
    held_bytes: int | None = None
    """What the environment held when it had written too much."""

    def error(self, frame: bytes) -> None:
        """The wrapper's first word; what the engine itself has to say comes here too, and is output."""
        if not self.begun and frame.startswith(wrapper.BEGUN):
            self.begun = True
            frame = frame[len(wrapper.BEGUN) :]
        self.output.feed(frame)


class ContainerCommands:
    """The commands of one back-end, on one event loop. ``sizes`` tells what a container holds; ``kill`` stops one."""

    def __init__(
        self, engine: EngineConnection, sizes: FolderSizes, kill: Callable[[str], Awaitable[None]], subreaper: bool
    ) -> None:
        self._engine = engine
        self._sizes = sizes
        self._kill = kill
        self._subreaper = subreaper
        self._places: dict[str, _Place] = {}

    async def run(
        self,
        container: str,
        user: ToolUser,
        command: str,
        timeout_s: float,
        env: Mapping[str, str],
        workdir: str,
        limits: Limits,
    ) -> ExecResult:
        """Run ``command``; whatever it started is gone on return. ``EnvironmentFailure`` if the container is dead."""
        mark = secrets.token_hex(8)
        place = self._places.setdefault(container, _Place())
        async with place.gate:
            beside = list(place.running)
            place.running[mark] = None
        try:
            argv = wrapper.wrapped(command, timeout_s, mark, subreaper=self._subreaper, beside=beside)
            variables = {**env, COMMAND_MARK: mark}
            for births_left in reversed(range(_BIRTHS)):
                talk = _Talk(HeadTail(limits.output_bytes))
                with self._sizes.watched(container, limits.disk_mib * 1024 * 1024) as full:
                    try:
                        await self._once(container, user, argv, variables, workdir, timeout_s, talk, full)
                    except EnvironmentFailure as error:
                        await self._refuse_dead(container, talk.begun)
                        if talk.begun or not beside or not births_left:
                            raise error
                        continue
                killed = talk.code is None or talk.code >= _ENDED_BY_SIGNAL
                # The engine's own process, on its way into the container, can be hit too: then its code is 126.
                unborn = not talk.begun and talk.held_bytes is None and (beside or talk.code is not None)
                if killed or unborn:
                    await self._refuse_dead(container, talk.begun)
                if not (unborn and births_left):
                    break
        finally:
            place.running.pop(mark, None)
        if talk.held_bytes is not None:
            await self._sizes.look(container)  # what was still written until the end is not the next command's doing
        return _result(talk, timeout_s, limits)

    def forget(self, container: str) -> None:
        self._places.pop(container, None)
        self._sizes.forget(container)

    async def _once(
        self,
        container: str,
        user: ToolUser,
        argv: tuple[str, ...],
        env: Mapping[str, str],
        workdir: str,
        timeout_s: float,
        talk: _Talk,
        full: asyncio.Future[int],
    ) -> None:
        started = time.monotonic()
        clean = False
        try:
            exec_id = await self._engine.create(container, argv, env, workdir, user.name)
            started = time.monotonic()
            work = asyncio.create_task(self._talk(exec_id, talk))
            try:
                either: set[asyncio.Future[Any]] = {work, full}
                late = timeout_s + wrapper.KILL_AFTER_S + LATE_S
                await asyncio.wait(either, timeout=late, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not work.done():
                    work.cancel()
                    await to_the_end(asyncio.wait([work]))
            if work.cancelled():
                talk.code = _KILLED
                talk.held_bytes = full.result() if full.done() else None
            else:
                talk.code = work.result()
                # 128 and more: perhaps the wrapper itself was killed, and what it watched over goes on.
                clean = talk.code is not None and talk.code < _ENDED_BY_SIGNAL
        finally:
            if not clean:
                await to_the_end(self._sweep(container, user, env[COMMAND_MARK]))
            talk.seconds = time.monotonic() - started

    async def _talk(self, exec_id: str, talk: _Talk) -> int | None:
        await self._engine.stream(exec_id, talk.output, talk.error)
        return await self._engine.exit_code(exec_id)

    async def _sweep(self, container: str, user: ToolUser, mark: str) -> None:
        """End a command from outside, with its whole tree; a container in which that fails is stopped as a whole."""
        place = self._places.get(container)
        if place is None:  # it is being removed
            return
        async with place.gate:
            alone = not place.running.keys() - {mark}
            try:
                async with asyncio.timeout(LATE_S):
                    argv = wrapper.sweep(None if alone else mark)
                    exec_id = await self._engine.create(container, argv, {}, "/", user.name)
                    await self._engine.stream(exec_id, HeadTail(100))
                    if await self._engine.exit_code(exec_id) in _SWEPT:
                        return
            except ContainerGone:
                return
            except (TimeoutError, EnvironmentFailure):
                pass
            place.stopped = True
            with contextlib.suppress(EnvironmentFailure):  # then the engine does not answer, and nobody can do anything
                await self._kill(container)

    async def _refuse_dead(self, container: str, begun: bool) -> None:
        """``EnvironmentFailure`` if the container does not run any more, with the reason."""
        try:
            state = await self._engine.state(container)
        except ContainerGone:
            why = "it was removed"
        else:
            if state["Running"]:
                return
            place = self._places.get(container)
            stopped = place is not None and place.stopped
            why = "stopped, as its tools could not be ended otherwise" if stopped else how_it_ended(state)
        if begun:
            raise ContainerGone(f"the container of this environment ended while a command ran ({why})")
        raise ContainerGone(f"the container of this environment is gone ({why})")


def _result(talk: _Talk, timeout_s: float, limits: Limits) -> ExecResult:
    text, cut = talk.output.text()
    code = _KILLED if talk.code is None else talk.code
    timed_out = talk.held_bytes is None and code in (124, _KILLED) and talk.seconds >= timeout_s
    if talk.held_bytes is not None:
        text = told_full(text, talk.held_bytes, limits.disk_mib)
    return ExecResult(text, code, talk.seconds, timed_out, cut)
