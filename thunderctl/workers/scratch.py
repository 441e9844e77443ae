"""A worker's folder for temporary files: made with a mark that says whose it is, so that a collector knows it again.

vLLM leaves its sockets and rendezvous files behind, and a worker that is killed together with its daemon leaves all
of it. A folder without a mark of this home is nobody's to take.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from thunderctl import paths
from thunderctl.environments.processes import marked

PREFIX = "thunderctl-"
MARK = ".thunderctl.json"
_SOCKET_ROOM = 107 - len("/thunderctl-12345678/00000000-0000-0000-0000-000000000000")
"""A socket's path has 107 bytes at most."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """A folder of this home, and the process that made it: a daemon, or a command that calibrates."""

    folder: Path
    pid: int
    create_time: float
    made: float
    """Seconds since the epoch."""


def make_scratch() -> Path:
    """A fresh folder near the root of the file system."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_root()))
    mark = {"owner": paths.owner(), "pid": os.getpid(), "create_time": psutil.Process().create_time()}
    try:
        (folder / MARK).write_text(json.dumps(mark))
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def find_scratch(besides: Iterable[Path] = ()) -> Iterator[Scratch]:
    """Every marked folder of this home in the usual places, and ``besides`` where a daemon had its temporary files."""
    for root in sorted({Path(tempfile.gettempdir()), _root(), *besides}):
        for folder in sorted(root.glob(f"{PREFIX}*")):
            found = read_scratch(folder)
            if found is not None:
                yield found


def read_scratch(folder: Path) -> Scratch | None:
    """What the mark in ``folder`` says; ``None`` if it is gone, or not this home's."""
    try:
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            return None
        said = json.loads((folder / MARK).read_text())
        if said["owner"] != paths.owner():
            return None
        return Scratch(folder, int(said["pid"]), float(said["create_time"]), (folder / MARK).stat().st_mtime)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _root() -> Path:
    usual = tempfile.gettempdir()
    return Path(usual if len(usual.encode()) <= _SOCKET_ROOM else "/tmp")  # noqa: S108


def end_unrecorded(folder: Path) -> None:
    """End whatever runs of a worker that has ``folder``, and remove that: its daemon was killed before it could write
    the worker down. A folder that is gone, or not this home's, is left alone."""
    if read_scratch(folder) is None:
        return
    for pid, given in marked(mark="TMPDIR"):
        if given == str(folder):
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).kill()
    shutil.rmtree(folder, ignore_errors=True)
