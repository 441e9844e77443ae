"""The reaper: a process of its own that collects what a node held when its daemon and its launcher were killed.

It is there before anything that could be left behind, and held connections tell it who lives: the kernel closes them
whatever happens to their holders. What a node still has it reads from the node's folder, never from a message, and
removing is the collector's work. It ends by itself: when nothing is left, or when the node's folder is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Literal

from thunderctl import paths
from thunderctl.environments.reaper_link import log_file, socket_path

# What only acting needs (psutil, docker, pydantic: 30 MB and half a second) is imported when there is something to do.

State = Literal["alive", "remains", "nothing"]

PARENT_PAUSE_S = 2.0
"""Seconds until a node that a run started for itself is collected: nobody comes back to it."""
REAP_AFTER_S = 30.0
"""The same for other nodes, should their profile not be readable (``environments.reap_after_s``)."""
LOOK_S = 1.0
"""Seconds between two looks while nobody is connected …"""
CHECK_S = 5.0
"""… and while somebody is: whether the node's folder is still there."""
SETTLE_S = 2.0
"""Seconds after something was removed until the next look: what was in the making at the kill shows up late."""
LATE_S = 10.0
"""How long a container that a lease was preparing is waited for: the engine finishes what it was asked for."""
RETRY_S = (1, 2, 5, 10, 20, 40, 60, 60, 60, 60)
"""Pauses between attempts, about five minutes in all: an engine that is started again has answered by then."""
EXPECT_S = 5.0
"""Seconds from a reaper's start to its first client, and from a connection to its first word."""
LOG_BYTES = 256 * 1024
_LINE = 4096

_FAULTS = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
log = logging.getLogger("thunderctl.reaper")


# ---------------------------------------------------------------------- what there is


def look(folder: Path) -> State:
    """Whether the node's daemon lives, and if not, whether anything is left of it. A few milliseconds, no engine."""
    from thunderctl.node import alive, read_record

    record = read_record(folder)
    if record is not None:
        return "alive" if alive(record) else "remains"
    return "remains" if _holds(folder) else "nothing"


def _holds(folder: Path) -> bool:
    """Whether the node's state or its folder of environments tells of anything that was not given back."""
    from thunderctl.node import same_process

    environments = folder / "environments"
    if environments.is_dir() and any(not each.name.startswith(".") for each in environments.iterdir()):
        return True
    try:
        if _rows(folder, "leases", "SELECT 1 FROM leases WHERE state != 'reclaimed' LIMIT 1"):
            return True
        processes = _rows(folder, "processes", "SELECT pid, create_time FROM processes")
    except Exception:  # a state that cannot be read is the collector's to judge
        log.exception("the node's state cannot be read")
        return True
    return any(same_process(pid, created) for pid, created in processes)


def _in_the_making(folder: Path) -> set[str]:
    """Leases whose container the engine may be making."""
    query = "SELECT id FROM leases WHERE state = 'preparing' AND backend = 'docker'"
    return {row[0] for row in _rows(folder, "leases", query)}


def _rows(folder: Path, table: str, query: str) -> list[Any]:
    import sqlite3

    file = folder / "state.db"
    if not file.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchall():
            return []
        return db.execute(query).fetchall()


# ---------------------------------------------------------------------- the process


@dataclass(eq=False)
class _Client:
    connection: socket.socket
    said: bytes = b""
    who: str = ""
    """Empty until it told."""
    pid: int = 0
    create_time: float = 0.0


@dataclass
class Reaper:
    """One node's reaper. ``listen`` first, then ``serve`` until there is nothing to do any more."""

    name: str
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder = paths.nodes() / self.name
        self._selector = selectors.DefaultSelector()
        self._clients: list[_Client] = []
        self._daemon_left = False
        """The last daemon said farewell: it does not come back."""
        self._due: float | None = None
        """When to act, on the monotonic clock; ``None`` while somebody is there."""
        self._attempts = 0
        self._expecting_until = time.monotonic() + EXPECT_S
        """Somebody connects, or has connected and will say who it is: nothing is decided before."""

    def listen(self) -> bool:
        """Take the socket. False if another reaper of this node has it."""
        self._lock = (self.folder / "reaper.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        (self.folder / "reaper.sock").unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            with socket_path(self.folder) as path:
                listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(16)
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))
        return True

    def serve(self) -> None:
        """Watch until nothing is left to watch over."""
        log.info("watching over the node %s", self.name)
        while self.folder.is_dir():
            self._hear(CHECK_S if self._clients else LOOK_S)
            if self._clients:
                self._due, self._attempts = None, 0
            elif time.monotonic() > self._expecting_until and self._alone():
                return
        log.info("the node's folder is gone")

    def _hear(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            handle: Callable[[], None] = key.data
            handle()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            self._expecting_until = time.monotonic() + EXPECT_S
            client = _Client(connection)
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(client))

    def _read(self, client: _Client) -> None:
        try:
            got = client.connection.recv(_LINE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            got = b""
        client.said += got
        if not got or len(client.said) > _LINE:
            self._part(client, f"{client.who} {client.pid} is gone without a farewell")
            return
        *lines, client.said = client.said.split(b"\n")
        try:
            for line in lines:
                if json.loads(line).get("farewell"):
                    self._farewell(client)
                    return
                self._greeted(client, json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            self._part(client, f"{client.who or 'somebody'} cannot be understood: {error}")

    def _farewell(self, client: _Client) -> None:
        if client.who == "daemon":
            self._daemon_left = True
            self._keep_record(client)
        if self._clients == [client] and look(self.folder) == "nothing":
            log.info("%s %s said farewell, and nothing is left", client.who, client.pid)
            logging.shutdown()
            os._exit(0)  # the connection ends with the process, so that whoever waits for one has seen both
        self._part(client, f"{client.who} {client.pid} said farewell")

    def _greeted(self, client: _Client, said: dict[str, Any]) -> None:
        client.who, client.pid, client.create_time = str(said["who"]), int(said["pid"]), float(said["create_time"])
        if client not in self._clients:
            self._clients.append(client)
        self._expecting_until = 0.0
        if client.who == "daemon":
            self._daemon_left = False
        client.connection.sendall(b"ok\n")
        log.info("%s %s is here", client.who, client.pid)

    def _part(self, client: _Client, why: str) -> None:
        self._selector.unregister(client.connection)
        client.connection.close()
        if client in self._clients:
            self._clients.remove(client)
            log.info("%s", why)

    def _keep_record(self, client: _Client) -> None:
        """A daemon that goes in order takes its record away, which alone proves that what it could not give back is
        nobody's: put it back in that case, as one that no later daemon takes over."""
        from thunderctl.node import NodeRecord, write_node

        if not (self.folder / "node.json").exists() and look(self.folder) == "remains":
            write_node(self.folder, NodeRecord(client.pid, client.create_time, "", "", "", client.create_time))
            log.warning("%s %s could not give everything back", client.who, client.pid)

    # ------------------------------------------------------------------ with nobody there

    def _alone(self) -> bool:
        """One step towards the end with nobody connected; true once that is reached."""
        found = look(self.folder)
        if found == "nothing":
            log.info("nothing is left of the node: the end")
            return True
        if found == "alive":  # its connection will come
            if self._due is not None:
                log.info("the node is up again")
            self._due = None
            return False
        if self._due is None:
            patience_s = self._patience_s()
            self._due = time.monotonic() + patience_s
            log.info("collecting what is left in %g s, unless the node is started again", patience_s)
        if time.monotonic() < self._due:
            return False
        with self._turn() as mine:
            return mine and self._act()

    def _patience_s(self) -> float:
        if self._daemon_left:
            return 0.0
        try:
            launch = json.loads((self.folder / "launch.json").read_text())
            after_s = float(launch["profile"]["environments"]["reap_after_s"])
        except (OSError, ValueError, TypeError, KeyError):
            return REAP_AFTER_S
        return min(after_s, PARENT_PAUSE_S) if launch.get("parent") else after_s

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """The lock that ``up`` and ``down`` take too; false if one of them is at work."""
        with (self.folder / "up.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _act(self) -> bool:
        """Look again with the lock held, then collect; true if that was the end of it."""
        self._hear(0)  # whoever connected since,
        self._hear(0)  # and what they said
        if self._clients or look(self.folder) != "remains":
            return False
        try:
            self._collect()
            left = look(self.folder) != "nothing"
        except Exception:
            log.exception("collecting failed")
            left = True
        if left and self._attempts < len(RETRY_S):
            pause_s = RETRY_S[self._attempts]
            self._attempts += 1
            self._due = time.monotonic() + pause_s
            log.warning("something is left: attempt %s follows in %s s", self._attempts + 1, pause_s)
            return False
        if left:
            log.error("given up; `thunderctl gc` shows what is left")
        else:
            log.info("nothing is left of the node: the end")
        return True

    def _collect(self) -> None:
        """Remove whatever the dead node left, and look again until nothing more shows up; its record goes last."""
        from thunderctl.environments import collector

        awaited = _in_the_making(self.folder)
        began = time.monotonic()
        while True:
            plan = collector.plan(measure=False)
            ours = [item for item in plan.items if item.node == self.name and item.kind != "node"]
            result = collector.carry_out(dataclasses.replace(plan, items=ours))
            for item in result.removed:
                log.info("removed: %s %s (lease %s)", item.kind, item.name, item.lease)
            for kept in result.came_into_use:
                log.info("left alone: %s %s: %s", kept.item.kind, kept.item.name, kept.reason)
            for kept in result.failed:
                log.warning("not removed: %s %s: %s", kept.item.kind, kept.item.name, kept.reason)
            awaited -= {item.lease for item in result.removed if item.kind == "container"}
            if not result.removed and (not awaited or time.monotonic() - began > LATE_S):
                break
            time.sleep(SETTLE_S)
        ours = [item for item in plan.items if item.node == self.name]
        collector.carry_out(dataclasses.replace(plan, items=ours))


def main(name: str) -> int:
    """Listen, leave whoever started this, and watch. The exit code is for the starter: 0 once somebody listens."""
    for number in signal.valid_signals() - _FAULTS:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    reaper = Reaper(name)
    file = log_file(reaper.folder)
    file.parent.mkdir(exist_ok=True)
    handler = RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", handlers=[handler])
    if not reaper.listen():
        return 0
    if os.fork():  # nobody's child: what ends its starter and all of its descendants does not end it
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    while True:
        try:
            reaper.serve()
            return 0
        except Exception:
            log.exception("the reaper stumbled, and goes on")
            time.sleep(LOOK_S)


if __name__ == "__main__":
    sys.exit(main(paths.safe_name(sys.argv[1], "the node name")))
