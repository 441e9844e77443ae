"""Folders that several processes may want to make at once: one makes, the others wait. Used by engines and models.

The lock is a file beside the folder, held with ``flock``: the kernel lets go of it when its holder dies, so there are
no stale locks. The file itself stays, because deleting it would let two holders in.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder_lock(folder: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[int]:
    """Hold the lock of ``folder``; ``on_wait`` is called once if somebody else holds it at first.

    Gives the lock's file descriptor: a child process that inherits it holds the lock too, even if we are killed and
    it goes on writing into the folder.
    """
    file = folder.with_name(f"{folder.name}.lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


def write_atomically(file: Path, text: str) -> None:
    """Write ``file`` so that it either has all of ``text``, on disk, or is not there."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    with fresh.open("w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    fresh.replace(file)
