"""The event journal: every event the scheduler took in, in order, in the node's ``state.db`` (SQLite, WAL).

Events are written in batches by a thread of their own, so that the event loop never waits for a disk. What the
scheduler decided is not stored: the same events give the same decisions (``replay``).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from thunderctl.core import events as ev
from thunderctl.core.effects import Effect
from thunderctl.core.scheduler import Scheduler

FLUSH_S = 0.2
"""Longest time an event waits for its batch: what a SIGKILL may lose."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, boot TEXT NOT NULL, at REAL NOT NULL, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS boots (boot TEXT PRIMARY KEY, started REAL NOT NULL, scheduler TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS processes (pid INTEGER PRIMARY KEY, create_time REAL NOT NULL, pgid INTEGER NOT NULL,
                                      kind TEXT NOT NULL, name TEXT NOT NULL);
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open ``state.db`` the way every part of the daemon does: WAL, so readers and writers do not wait."""
    db = sqlite3.connect(path, timeout=10, check_same_thread=False, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    return db


class Journal:
    """Appends events of one life (``boot``) of the daemon. ``scheduler`` says what is needed to replay them."""

    def __init__(self, path: Path, boot: str, started: float, scheduler: dict[str, object]) -> None:
        self._db = connect(path)
        self._db.executescript(_SCHEMA)
        self._boot = boot
        self._pending: list[tuple[str, float, bytes]] = []
        self._task: asyncio.Task[None] | None = None
        self._db.execute("INSERT INTO boots VALUES (?, ?, ?)", (boot, started, msgspec.json.encode(scheduler).decode()))

    def append(self, event: ev.Event, at: float) -> None:
        """Note ``event``; it is on disk ``FLUSH_S`` seconds later."""
        self._pending.append((self._boot, at, msgspec.json.encode(ev.to_record(event))))

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_flushing())

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            if self._pending:
                await asyncio.to_thread(self._flush)

    def _flush(self) -> None:
        batch, self._pending = self._pending, []
        if not batch:
            return
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO events (boot, at, record) VALUES (?, ?, ?)", batch)
        self._db.execute("COMMIT")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._flush()
        self._db.close()

    # What the collector needs to find after a SIGKILL: written at once, not in batches.

    def note_process(self, pid: int, create_time: float, pgid: int, kind: str, name: str) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?, ?)", (pid, create_time, pgid, kind, name)
        )

    def forget_process(self, pid: int) -> None:
        self._db.execute("DELETE FROM processes WHERE pid = ?", (pid,))


def boots(path: Path) -> list[tuple[str, float, dict[str, object]]]:
    """Every life of the daemon in this journal: (boot, wall-clock start, scheduler settings), oldest first."""
    db = connect(path)
    try:
        rows = db.execute("SELECT boot, started, scheduler FROM boots ORDER BY started").fetchall()
    finally:
        db.close()
    return [(boot, started, msgspec.json.decode(settings)) for boot, started, settings in rows]


def replay(path: Path, boot: str, scheduler: Scheduler) -> Iterator[tuple[float, Effect]]:
    """Feed one boot's events to ``scheduler``; yields (time, effect) as they were decided then."""
    db = connect(path)
    try:
        rows = db.execute("SELECT at, record FROM events WHERE boot = ? ORDER BY seq", (boot,)).fetchall()
    finally:
        db.close()
    for at, record in rows:
        for effect in scheduler.handle(ev.from_record(msgspec.json.decode(record)), at):
            yield at, effect
