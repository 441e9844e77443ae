"""The other end of the reaper's connections: what a launcher or a daemon holds while it lives, and how one is started.

Blocks, for a reaper that is at work as long as that takes. Whoever has a ``Hold`` may begin; not before.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from thunderctl import paths
from thunderctl.errors import DaemonError

START_S = 30.0
ANSWER_S = 120.0
"""Longest wait for a reaper that is at work: whoever connects then must not begin before it has ended."""

_PASSED_ON = ("THUNDERCTL_", "DOCKER_", "XDG_", "PYTHON", "LC_")
_PASSED_ON_NAMES = {"HOME", "PATH", "LANG", "TMPDIR", "TZ", "LD_LIBRARY_PATH"}
"""Of the starter's environment; keys and other secrets in it are nothing that collecting needs."""


class Hold:
    """One's own end of a held connection. While it is open, the reaper takes its holder as alive."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def farewell(self) -> None:
        """Leave in order: everything was given back, or somebody else holds it now. Returns once the reaper knows.

        If nobody else is connected and nothing is left, the reaper is gone by then.
        """
        with contextlib.suppress(OSError), self.connection:
            self.connection.settimeout(ANSWER_S)
            self.connection.sendall(b'{"farewell": true}\n')
            self.connection.recv(1)


def hold(name: str, who: str) -> Hold:
    """Connect to the reaper of the node ``name``, which is started if there is none; ``who`` is for its log.

    Returns once the reaper has promised to collect nothing while the connection lasts. ``DaemonError`` if it cannot.
    """
    folder = paths.nodes() / name
    until, pause_s = time.monotonic() + START_S, 0.02
    while True:
        greeted = _greet(folder, who)
        if greeted is not None:
            return Hold(greeted)
        said = _start(name) if folder.is_dir() else f"{folder} is gone"
        if time.monotonic() > until or not folder.is_dir():
            raise DaemonError(
                f"the reaper of the node {name} does not start, and without it a kill would leave things behind",
                hint=f"its log is {log_file(folder)}",
                details=said.splitlines()[-5:],
            )
        time.sleep(pause_s)  # until one that is just ending has let go, or this machine can start processes again
        pause_s = min(2 * pause_s, 1.0)


@contextlib.contextmanager
def held(name: str, who: str) -> Iterator[None]:
    """Be connected to the node's reaper for a while."""
    mine = hold(name, who)
    try:
        yield
    finally:
        mine.farewell()


def dismiss(name: str) -> None:
    """Tell the node's reaper, if there is one, that everything was collected; it ends if it finds that to be so."""
    greeted = _greet(paths.nodes() / name, "down")
    if greeted is not None:
        Hold(greeted).farewell()


def _greet(folder: Path, who: str) -> socket.socket | None:
    """A connection to the reaper, which has answered; ``None`` if there is none, or one that is just ending."""
    import psutil

    me = {"who": who, "pid": os.getpid(), "create_time": psutil.Process().create_time()}
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket_path(folder) as path:
            connection.connect(path)
        connection.settimeout(ANSWER_S)
        connection.sendall(json.dumps(me).encode() + b"\n")
        if connection.recv(16):
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _start(name: str) -> str:
    """Start a reaper, and return once it listens (or another does); what it complained of, if it did."""
    env = {k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON) or k in _PASSED_ON_NAMES}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "thunderctl.environments.reaper", name],
            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True, cwd="/", timeout=START_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "it did not listen in time"
    return done.stderr.decode(errors="replace")


@contextlib.contextmanager
def socket_path(folder: Path) -> Iterator[str]:
    """The socket's path, however deep the folder is: sockets' paths have 107 bytes, so it begins at a descriptor."""
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{opened}/reaper.sock"
    finally:
        os.close(opened)


def log_file(folder: Path) -> Path:
    return folder / "logs" / "reaper.log"
