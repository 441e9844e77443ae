"""A person's own terminal in an environment: a shell with the user, the place and the limits of the tools there.

It does not go through the daemon, which has no terminal to offer, and is no tool of the program. A local shell runs on
a pseudo-terminal of its own: what runs in the sandbox never gets hold of the one that the person sits at.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import secrets
import selectors
import signal
import socket
import struct
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import docker
from docker.errors import APIError, NotFound

from thunderctl.environments.backend import Wanted
from thunderctl.environments.docker import connect
from thunderctl.environments.lease import Lease
from thunderctl.environments.local import LocalBackend
from thunderctl.environments.processes import COMMAND_MARK, kill_marked
from thunderctl.errors import EnvironmentFailure, UsageError

_CHUNK = 65536
_END_S = 2.0
_BASH_OR_SH = ("/bin/sh", "-c", 'exec "$(command -v bash || echo sh)"')


class Stream(Protocol):
    """The far end of a terminal."""

    def fileno(self) -> int: ...

    def read(self) -> bytes:
        """What there is; empty once it has ended."""
        ...

    def write(self, data: bytes) -> None: ...

    def resize(self, rows: int, columns: int) -> None: ...


def shell(lease: Lease, wanted: Wanted, node_dir: Path) -> int:
    """A shell in the environment until the person leaves it; its exit code. ``UsageError`` without a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "a shell needs a terminal", hint=f"for one command: thunderctl env exec {lease.id[:6]} 'COMMAND'"
        )
    return _docker_shell(lease, wanted) if lease.backend == "docker" else _local_shell(lease, wanted, node_dir)


def _local_shell(lease: Lease, wanted: Wanted, node_dir: Path) -> int:
    backend = LocalBackend(node_dir)
    asyncio.run(backend.available())
    token = secrets.token_hex(8)
    master, slave = pty.openpty()
    try:
        with backend.entrance(lease, wanted, wanted.limits.wall_s, _variables(), token) as way:
            # The sandbox is a session of its own, without a terminal; setsid makes one that has this one. Whatever
            # leads a session on the way there would take the terminal for itself (bash does), so nothing does.
            process = subprocess.Popen(
                [*way.argv, "setsid", "--ctty", "--wait", "bash"],
                stdin=slave, stdout=slave, stderr=slave, env=dict(way.env), cwd=way.cwd, process_group=0,
                pass_fds=way.keep_open,
            )  # fmt: skip
        os.close(slave)
        try:
            _relay(_Pty(master))
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
            process.kill()
            kill_marked(token, mark=COMMAND_MARK)
        code = process.wait()
        return 128 - code if code < 0 else code
    finally:
        os.close(master)


def _docker_shell(lease: Lease, wanted: Wanted) -> int:
    if lease.place is None:
        raise EnvironmentFailure(f"lease {lease.id} has no container (it is {lease.state})")
    with contextlib.closing(connect()) as client:
        try:
            image = client.images.get(client.api.inspect_container(lease.place)["Image"])
            user = wanted.spec.user or image.attrs["Config"].get("User") or "0:0"
            command = client.api.exec_create(
                lease.place, list(_BASH_OR_SH), stdin=True, tty=True, user=user, workdir=wanted.spec.workdir,
                environment={**wanted.spec.env, **_variables()},
            )["Id"]  # fmt: skip
            stream = _Exec(client, command, client.api.exec_start(command, tty=True, socket=True))
            try:
                _relay(stream)
            finally:
                stream.close()
            return int(client.api.exec_inspect(command)["ExitCode"] or 0)
        except NotFound:
            raise EnvironmentFailure(f"the container of lease {lease.id} is gone") from None
        except APIError as error:
            raise EnvironmentFailure(f"the Docker engine refused the shell: {error.explanation or error}") from error


def _variables() -> dict[str, str]:
    return {"TERM": os.environ.get("TERM", "xterm")}


class _Pty:
    def __init__(self, master: int) -> None:
        self._master = master

    def fileno(self) -> int:
        return self._master

    def read(self) -> bytes:
        try:
            return os.read(self._master, _CHUNK)
        except OSError:  # EIO: the last process that had the other end has gone
            return b""

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._master, data) :]

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class _Exec:
    def __init__(self, client: docker.DockerClient, command: str, answer: Any) -> None:
        self._client = client
        self._command = command
        self._answer = answer  # keeps the connection open
        self._socket: socket.socket = getattr(answer, "_sock", answer)
        self._socket.settimeout(None)

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes:
        try:
            return self._socket.recv(_CHUNK)
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def resize(self, rows: int, columns: int) -> None:
        with contextlib.suppress(APIError):  # it has just ended
            self._client.api.exec_resize(self._command, height=rows, width=columns)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the end of input: a shell that was left behind leaves as well
            self._socket.sendall(b"\x03\x04")
        self._answer.close()


def _relay(stream: Stream) -> None:
    """Copy both ways until the far end is over, or the person's terminal is gone."""
    here, there = sys.stdin.fileno(), sys.stdout.fileno()
    with _raw(here), _resized(stream, here), selectors.DefaultSelector() as waiting:
        waiting.register(here, selectors.EVENT_READ)
        waiting.register(stream, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in waiting.select()}
            if here in ready:
                try:
                    typed = os.read(here, _CHUNK)
                except OSError:
                    return
                if not typed:
                    return
                stream.write(typed)
            if stream.fileno() in ready:
                told = stream.read()
                if not told:
                    return
                while told:
                    told = told[os.write(there, told) :]


@contextlib.contextmanager
def _raw(terminal: int) -> Iterator[None]:
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal, termios.TCSADRAIN)  # keeps what was typed ahead
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resized(stream: Stream, terminal: int) -> Iterator[None]:
    def fit(*_: object) -> None:
        size = os.get_terminal_size(terminal)
        stream.resize(size.lines, size.columns)

    before = signal.signal(signal.SIGWINCH, fit)
    fit()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
