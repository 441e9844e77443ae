"""What the folders of local environments hold, walked no more often than needed.

A folder changes only while a command runs in it or files are put there: in between, a size once measured stays true.
While commands run, one watch per folder looks every ``PAUSE_S`` seconds, in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from thunderctl.environments.disk import folder_bytes

PAUSE_S = 2.0
_SHARE = 20
"""A walk that takes long is repeated after so many times as long: at most a twentieth of one core goes into looking."""


@dataclass(slots=True)
class _Folder:
    next_look: float
    commands: int = 0
    changes: int = 0
    measured: tuple[int, int] | None = None
    """``changes`` at the time, and the bytes."""
    looked: int = 0
    """Bytes at the watch's last look."""
    walk: asyncio.Future[None] | None = None
    watch: asyncio.Task[int] | None = None


def told_full(output: str, held_bytes: int, limit_mib: int) -> str:
    """``output`` of a command that was ended for what its environment holds, with a last line that says so."""
    said = f"the environment holds {held_bytes >> 20} MiB on disk, more than its limit of {limit_mib} MiB"
    return f"{output}{'' if output.endswith(chr(10)) or not output else chr(10)}[ended: {said}]\n"


class FolderSizes:
    """Sizes of the folders below ``root``, by name. Belongs to one event loop."""

    def __init__(self, root: Path, bytes_of: Callable[[Path], int] | None = None) -> None:
        self._root = root
        self._bytes_of = bytes_of or folder_bytes
        self._known: dict[str, _Folder] = {}

    @contextlib.contextmanager
    def changing(self, name: str) -> Iterator[None]:
        """While something is written into a folder by other means than a command."""
        here = self._of(name)
        here.changes += 1
        try:
            yield
        finally:
            here.changes += 1

    @contextlib.contextmanager
    def watched(self, name: str, limit_bytes: int) -> Iterator[asyncio.Future[int]]:
        """While a command runs: what it yields gets the size once the folder holds more than ``limit_bytes``.

        A folder that was beyond its limit before, and does not grow, lets a command be: it may be tidying up.
        """
        with self.changing(name):
            here = self._of(name)
            here.commands += 1
            if here.watch is None or here.watch.done():
                here.watch = asyncio.create_task(self._watch(name, here, limit_bytes))
            watch = here.watch
            try:
                yield watch
            finally:
                here.commands -= 1
                if here.commands == 0:
                    here.watch = None
                    watch.cancel()

    async def _watch(self, name: str, here: _Folder, limit_bytes: int) -> int:
        while True:
            await asyncio.sleep(max(0.0, here.next_look - time.monotonic()))
            before = here.looked
            await self._look(name, here)
            if here.looked > limit_bytes and (before <= limit_bytes or here.looked > before):
                return here.looked

    async def look(self, name: str) -> None:
        """Measure a folder now; the watch compares with this."""
        await self._look(name, self._of(name))

    async def _look(self, name: str, here: _Folder) -> None:
        if here.walk is None:  # else one that an earlier command's watch began is still on its way
            here.walk = asyncio.ensure_future(self._walk(name, here))
        await asyncio.shield(here.walk)

    async def _walk(self, name: str, here: _Folder) -> None:
        started, changes = time.monotonic(), here.changes
        try:
            here.looked = await asyncio.to_thread(self._bytes_of, self._root / name)
            here.measured = changes, here.looked
        finally:
            here.next_look = time.monotonic() + max(PAUSE_S, _SHARE * (time.monotonic() - started))
            here.walk = None

    async def all(self) -> dict[str, int]:
        """Bytes of every folder; what was measured since its last change is not measured again."""
        true, changes = {}, {}
        for name, here in self._known.items():
            changes[name] = here.changes
            if here.commands == 0 and here.measured is not None and here.measured[0] == here.changes:
                true[name] = here.measured[1]
        found = await asyncio.to_thread(self._measure, true)
        for name, size in found.items():
            if name not in true and name in changes and name in self._known:
                self._known[name].measured = changes[name], size
        return found

    def forget(self, name: str) -> int | None:
        """Let go of a folder that is to be removed; its bytes, if they are known to be true."""
        here = self._known.pop(name, None)
        if here is None or here.commands or here.measured is None or here.measured[0] != here.changes:
            return None
        return here.measured[1]

    def _of(self, name: str) -> _Folder:
        if name not in self._known:
            self._known[name] = _Folder(next_look=time.monotonic() + PAUSE_S)
        return self._known[name]

    def _measure(self, true: dict[str, int]) -> dict[str, int]:
        try:
            names = [name for name in os.listdir(self._root) if not name.startswith(".")]  # noqa: PTH208
        except OSError:
            return {}
        return {name: true[name] if name in true else self._bytes_of(self._root / name) for name in names}
