"""One local command from start to end, with a deadline for its whole process tree.

Not ``asyncio.subprocess``: its ``wait`` returns, in some versions, only when the last holder of the pipe has gone, and
a background process may hold it for ever. Here the exit of the command (a pidfd) and the end of its output (the pipe)
are two things. The tree is ended in every case: exit, deadline, stop, cancellation.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunderctl.environments.backend import to_the_end
from thunderctl.environments.output import HeadTail
from thunderctl.environments.processes import kill_group

_CHUNK = 1 << 16
_HOLDER_GRACE_S = 0.25
"""After the end of the tree: how long the pipe may stay open before its holder is hunted (or given up)."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: by itself, at its deadline, or because it was told to stop."""

    code: int
    """As a shell tells it."""
    seconds: float
    timed_out: bool
    stopped: bool


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    timeout_s: float,
    kept: HeadTail,
    hunt: Callable[[int], None],
    stop: asyncio.Future[int],
    keep_open: Sequence[int] = (),
) -> Ended:
    """Run ``argv`` in a session of its own until it ends, its deadline comes or ``stop`` is done.

    ``hunt(pid)`` ends what left the session; it is called in a thread when the command has ended. ``keep_open`` are
    descriptors that the command inherits.
    """
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    started = time.monotonic()
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 (a vfork of about a millisecond; a thread would cost as much)
            argv,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            pass_fds=keep_open,
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    silent: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        try:
            data = os.read(reading, _CHUNK)
        except BlockingIOError:
            return
        kept.feed(data)
        if not data:
            loop.remove_reader(reading)
            if not silent.done():
                silent.set_result(None)

    loop.add_reader(reading, readable)
    try:
        exited = asyncio.ensure_future(_exit_of(process))
        awaited: set[asyncio.Future[Any]] = {exited, stop}
        done, _ = await asyncio.wait(awaited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        took = time.monotonic() - started
    finally:
        try:
            await to_the_end(_end(process, exited, silent, hunt))
        finally:
            loop.remove_reader(reading)
            os.close(reading)
    code = process.returncode
    return Ended(128 - code if code < 0 else code, took, timed_out=not done, stopped=bool(done) and exited not in done)


async def _end(
    process: subprocess.Popen[bytes],
    exited: asyncio.Future[None],
    silent: asyncio.Future[None],
    hunt: Callable[[int], None],
) -> None:
    kill_group(process.pid)
    await exited
    await asyncio.to_thread(hunt, process.pid)
    await asyncio.wait([silent], timeout=_HOLDER_GRACE_S)
    silent.cancel()


async def _exit_of(process: subprocess.Popen[bytes]) -> None:
    """Return once the command itself has ended, and reap it."""
    loop = asyncio.get_running_loop()
    try:
        watch = os.pidfd_open(process.pid)
    except OSError:  # before Linux 5.3
        await asyncio.to_thread(process.wait)
        return
    ended = loop.create_future()
    loop.add_reader(watch, lambda: None if ended.done() else ended.set_result(None))
    try:
        await ended
        process.wait()
    finally:
        loop.remove_reader(watch)
        os.close(watch)
