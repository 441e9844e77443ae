"""Turns: locks in the home folder that hold among threads and processes alike, and end with whoever had them.

A lock is an open file, so the kernel lets it go when its process dies, however it dies. Waiting means asking again:
that costs a system call each ``ASK_S``, and it can be called off.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from thunderctl import paths
from thunderctl.errors import EnvironmentFailure

ASK_S = 0.1


@contextlib.contextmanager
def turn(
    *names: str, stop: threading.Event | None = None, waiting: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold the lock of one of ``names``, whichever is free first; ``waiting`` is called once if none is.

    ``EnvironmentFailure`` once ``stop`` is set while it waits.
    """
    stop = stop or threading.Event()
    lock = _any_of(names)
    if lock is None:
        waiting()
    while lock is None:
        pause(ASK_S, stop)
        lock = _any_of(names)
    with lock:
        yield


@contextlib.contextmanager
def held(name: str) -> Iterator[None]:
    """Keep everybody from having ``turn(name)``. Any number may hold at once; whoever has the turn is waited for."""
    with _file(name).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def nobody_has(name: str) -> contextlib.AbstractContextManager[object] | None:
    """The turn if it is free right now, to be used in a ``with`` statement; else ``None``."""
    return _any_of((name,))


def pause(seconds: float, stop: threading.Event) -> None:
    """Sleep; ``EnvironmentFailure`` as soon as ``stop`` is set."""
    if stop.wait(seconds):
        raise EnvironmentFailure("bringing images was called off: whoever wanted them is closing")


def _any_of(names: Sequence[str]) -> IO[str] | None:
    for name in names:
        lock = _file(name).open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return lock
    return None


def _file(name: str) -> Path:
    # A name may hold any character. The files stay: removing one would let two hold "the same" lock.
    folder = paths.home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / hashlib.sha256(name.encode()).hexdigest()[:16]
