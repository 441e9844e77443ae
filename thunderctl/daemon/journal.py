"""The event journal: every event the scheduler took in, in order, in the node's ``state.db`` (SQLite, WAL).

Events of one turn of the event loop are committed together when it ends, and before an answer goes out, so a SIGKILL
loses at most what happened in the turn that it cut short, and no step that its agent has seen. A commit costs 14 µs,
and 1.8 µs for each event, and waits for no disk (the write-ahead log is synced by a thread, at checkpoints). What the
scheduler decided is not stored: the same events give the same decisions (``replay``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from thunderctl.core import events as ev
from thunderctl.core.effects import Effect
from thunderctl.core.scheduler import Scheduler

log = logging.getLogger("thunderctl.journal")

CHECKPOINT_S = 2.0
"""Seconds between two checkpoints, which copy the write-ahead log into the database."""
BOOTS_KEPT = 2
"""Lives of the daemon whose events stay, the present one included."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, boot TEXT NOT NULL, at REAL NOT NULL, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS boots (boot TEXT PRIMARY KEY, started REAL NOT NULL, scheduler TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS processes (pid INTEGER PRIMARY KEY, create_time REAL NOT NULL, pgid INTEGER NOT NULL,
                                      kind TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS workers (pid INTEGER PRIMARY KEY, scratch TEXT NOT NULL, url TEXT NOT NULL, facts TEXT);
CREATE TABLE IF NOT EXISTS scratch (folder TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS containers (program TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL DEFAULT 0,
                                       PRIMARY KEY (program, id));
CREATE TABLE IF NOT EXISTS weights (id INTEGER PRIMARY KEY CHECK (id = 1), record TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class WorkerNote:
    """What a later daemon needs to take a worker over, or to end it.

    ``facts`` as :class:`thunderctl.workers.facts.WorkerFacts` names them; ``None`` if it was not ready yet.
    ``scratch``: its folder for temporary files, which goes when it goes; empty if there is none.
    """

    name: str
    pid: int
    create_time: float
    pgid: int
    scratch: str
    url: str
    facts: dict[str, object] | None


def connect(path: Path) -> sqlite3.Connection:
    """Open ``state.db`` the way every part of the daemon does: WAL, so readers and writers do not wait."""
    db = sqlite3.connect(path, timeout=10, check_same_thread=False, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    return db


class Journal:
    """Appends events of one life (``boot``) of the daemon; all of it is used from the event loop's thread.

    ``scheduler`` says what is needed to replay them. A boot that the journal knows already is carried on.
    """

    def __init__(self, path: Path, boot: str, started: float, scheduler: dict[str, object]) -> None:
        self.path = path
        self.lost = 0
        """Events that could not be written (a full disk); the daemon goes on without them."""
        self._db = connect(path)
        self._db.execute("PRAGMA wal_autocheckpoint=0")
        self._db.executescript(_SCHEMA)
        with contextlib.suppress(sqlite3.OperationalError):  # it is there, unless an earlier version made the table
            self._db.execute("ALTER TABLE containers ADD COLUMN at REAL NOT NULL DEFAULT 0")
        self._pending: list[tuple[str, float, bytes]] = []
        self._written = False
        self._task: asyncio.Task[None] | None = None
        self.boot = boot
        self._scheduler = scheduler
        if self._begin(started, scheduler):
            self._db.execute("DELETE FROM weights")  # its workers start with their own

    def _begin(self, started: float, scheduler: dict[str, object]) -> bool:
        """Whether this boot is a new one."""
        known = self._db.execute("SELECT 1 FROM boots WHERE boot = ?", (self.boot,)).fetchone()
        if known:
            return False
        settings = msgspec.json.encode(scheduler).decode()
        self._db.execute("INSERT INTO boots VALUES (?, ?, ?)", (self.boot, started, settings))
        self._db.execute("DELETE FROM containers")
        old = self._db.execute("SELECT boot FROM boots ORDER BY started DESC LIMIT -1 OFFSET ?", (BOOTS_KEPT,))
        for (boot,) in old.fetchall():
            self._db.execute("DELETE FROM events WHERE boot = ?", (boot,))
            self._db.execute("DELETE FROM boots WHERE boot = ?", (boot,))
        return True

    def begin_anew(self, boot: str) -> None:
        """What comes now has nothing to do with the events so far."""
        self._pending.clear()
        self.boot = boot
        self._begin(time.time(), self._scheduler)

    def append(self, event: ev.Event, at: float) -> None:
        """Note ``event``; it is committed when the event loop's present turn ends."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self.flush)
        fields = msgspec.json.encode(event)
        kind = type(event).__name__.encode()
        rest = b"," + fields[1:] if len(fields) > 2 else b"}"
        self._pending.append((self.boot, at, b'{"event":"' + kind + b'"' + rest))

    def flush(self) -> None:
        """Commit what is pending."""
        batch, self._pending = self._pending, []
        if not batch:
            return
        self._written = True
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO events (boot, at, record) VALUES (?, ?, ?)", batch)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            if not self.lost:
                log.error("the journal cannot be written, and a restart will not know what happens now: %s", error)
            self.lost += len(batch)

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_checkpointing())

    async def _keep_checkpointing(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_S)
            if not self._written:
                continue
            self._written = False
            await asyncio.to_thread(_checkpoint, self.path)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.flush()
        self._db.close()

    # What must be found after a SIGKILL even if no event loop turned any more: written at once.

    def note_scratch(self, folder: Path) -> None:
        """A worker is about to be started with this folder for temporary files."""
        self._db.execute("INSERT OR IGNORE INTO scratch VALUES (?)", (str(folder),))

    def scratch_folders(self) -> list[str]:
        """Every folder that :meth:`note_scratch` was told of, whatever became of it."""
        return [folder for (folder,) in self._db.execute("SELECT folder FROM scratch")]

    def note_worker(self, name: str, pid: int, create_time: float, pgid: int, scratch: str) -> None:
        """A worker's process was started."""
        self._db.execute(
            "INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?, ?)", (pid, create_time, pgid, "worker", name)
        )
        self._db.execute("INSERT OR REPLACE INTO workers VALUES (?, ?, '', NULL)", (pid, scratch))

    def forget_process(self, pid: int) -> None:
        self._db.execute("DELETE FROM processes WHERE pid = ?", (pid,))
        self._db.execute("DELETE FROM workers WHERE pid = ?", (pid,))

    def note_ready(self, pid: int, url: str, facts: dict[str, object]) -> None:
        """The worker of this process is ready: a later daemon may take it over."""
        self._db.execute("UPDATE workers SET url = ?, facts = ? WHERE pid = ?", (url, msgspec.json.encode(facts), pid))

    def workers(self) -> list[WorkerNote]:
        """Workers that were started and not stopped, as far as this journal knows."""
        rows = self._db.execute(
            "SELECT name, p.pid, create_time, pgid, coalesce(scratch, ''), coalesce(url, ''), facts "
            "FROM processes p LEFT JOIN workers w ON w.pid = p.pid WHERE kind = 'worker'"
        )
        return [
            WorkerNote(name, pid, create_time, pgid, scratch, url, msgspec.json.decode(facts) if facts else None)
            for name, pid, create_time, pgid, scratch, url, facts in rows.fetchall()
        ]

    def note_weights(self, record: dict[str, object]) -> None:
        """Which weights are in force, and what is being done about them."""
        self._db.execute("INSERT OR REPLACE INTO weights VALUES (1, ?)", (msgspec.json.encode(record).decode(),))

    def weights(self) -> dict[str, object] | None:
        """What :meth:`note_weights` was told last in this life; ``None`` if nothing."""
        row = self._db.execute("SELECT record FROM weights").fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=dict[str, object])

    def note_container(self, program: str, container: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO containers VALUES (?, ?, ?)", (program, container, time.time()))

    def forget_containers(self, program: str, containers: Iterable[str]) -> None:
        rows = [(program, container) for container in containers]
        self._db.executemany("DELETE FROM containers WHERE program = ? AND id = ?", rows)

    def containers(self, program: str | None = None) -> list[tuple[str, str]]:
        """(program, name or id) of containers that agents registered, and that nobody collected yet."""
        rows = self._db.execute("SELECT program, id FROM containers ORDER BY rowid").fetchall()
        return [row for row in rows if program in (None, row[0])]


def _checkpoint(path: Path) -> None:
    # Passive: it takes what it can get without making a writer wait.
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, timeout=1)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")


def boots(path: Path) -> list[tuple[str, float, dict[str, object]]]:
    """Every life of the daemon in this journal: (boot, wall-clock start, scheduler settings), oldest first."""
    with contextlib.closing(connect(path)) as db:
        db.executescript(_SCHEMA)
        rows = db.execute("SELECT boot, started, scheduler FROM boots ORDER BY started").fetchall()
    return [(boot, started, msgspec.json.decode(settings)) for boot, started, settings in rows]


def events(path: Path, boot: str) -> Iterator[tuple[float, ev.Event]]:
    """(scheduler's time, event) of one boot, in order."""
    with contextlib.closing(connect(path)) as db:
        for at, record in db.execute("SELECT at, record FROM events WHERE boot = ? ORDER BY seq", (boot,)):
            yield at, ev.from_record(msgspec.json.decode(record))


def replay(path: Path, boot: str, scheduler: Scheduler) -> Iterator[tuple[float, Effect]]:
    """Feed one boot's events to ``scheduler``; yields (time, effect) as they were decided then."""
    for at, event in events(path, boot):
        for effect in scheduler.handle(event, at):
            yield at, effect
