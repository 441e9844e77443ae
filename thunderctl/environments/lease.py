"""The ledger of leases: which environment belongs to which program, in the table ``leases`` of the node's state.

A lease is committed as ``requested`` before anything exists that it stands for, so whoever finds this file later
knows everything there may be. Other tables of the file belong to others. Safe for use from several threads and
processes; every change of state is one statement that names the state it came from.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thunderctl.errors import EnvironmentFailure

State = Literal["requested", "preparing", "ready", "in_use", "reclaimed", "failed"]

TRANSITIONS: dict[State, frozenset[State]] = {
    "requested": frozenset({"preparing", "failed", "reclaimed"}),
    "preparing": frozenset({"ready", "requested", "failed", "reclaimed"}),
    "ready": frozenset({"in_use", "failed", "reclaimed"}),
    "in_use": frozenset({"failed", "reclaimed"}),
    "failed": frozenset({"reclaimed"}),
    "reclaimed": frozenset(),
}
"""Every change of state there is. ``in_use`` begins with the first command and lasts until the end. A preparation that
was cut off with its daemon goes back to ``requested``: the next daemon begins it again."""

ACTIVE: frozenset[State] = frozenset({"requested", "preparing", "ready", "in_use"})
"""States in which a lease protects what it stands for."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS leases (
    id TEXT PRIMARY KEY,
    program TEXT NOT NULL,
    run TEXT NOT NULL,
    backend TEXT NOT NULL,
    state TEXT NOT NULL,
    place TEXT,
    image TEXT,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    bytes INTEGER NOT NULL DEFAULT 0
)
"""
_SPECS = "CREATE TABLE IF NOT EXISTS specs (lease TEXT PRIMARY KEY, wanted TEXT NOT NULL)"
_MOVES = "CREATE TABLE IF NOT EXISTS moves (lease TEXT NOT NULL, state TEXT NOT NULL, at REAL NOT NULL)"
_INDICES = (
    "CREATE INDEX IF NOT EXISTS leases_of_program ON leases (program)",
    "CREATE INDEX IF NOT EXISTS moves_of_lease ON moves (lease)",
)
_COLUMNS = "id, program, run, backend, state, place, image, created, updated, bytes"


@dataclass(frozen=True, slots=True)
class Lease:
    """One row of the ledger. ``created`` and ``updated`` are seconds since the epoch."""

    id: str
    program: str
    run: str
    backend: str
    state: State
    place: str | None
    """Container id, or the folder of a local environment; ``None`` until it exists."""
    image: str | None
    created: float
    updated: float
    bytes: int

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


class LeaseLedger:
    """The table ``leases`` of one node's ``state.db``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        with self._lock:
            self._db.execute("PRAGMA journal_mode=WAL")
            # NORMAL survives the kill of any process; only a power cut may take the last rows, and with them
            # everything they stood for.
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(_SCHEMA)
            for statement in (_SPECS, _MOVES, *_INDICES):
                self._db.execute(statement)

    def open(self, program: str, run: str, backend: str, image: str | None = None) -> Lease:
        """A new lease in state ``requested``, committed on return."""
        now = time.time()
        lease = Lease(secrets.token_hex(8), program, run, backend, "requested", None, image, now, now, 0)
        with self._lock:
            self._db.execute(
                f"INSERT INTO leases ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)",  # noqa: S608 (a constant)
                (lease.id, program, run, backend, "requested", None, image, now, now, 0),
            )
            self._db.execute("INSERT INTO moves VALUES (?, 'requested', ?)", (lease.id, now))
        return lease

    def move(self, lease_id: str, state: State) -> Lease:
        """Change the state; ``EnvironmentFailure`` if the lease is unknown or may not go there from where it is."""
        sources = [source for source, targets in TRANSITIONS.items() if state in targets]
        marks, now = ",".join("?" * len(sources)), time.time()
        with self._lock:
            changed = self._db.execute(
                f"UPDATE leases SET state = ?, updated = ? WHERE id = ? AND state IN ({marks})",  # noqa: S608
                (state, now, lease_id, *sources),
            ).rowcount
            if changed:
                self._db.execute("INSERT INTO moves VALUES (?, ?, ?)", (lease_id, state, now))
        lease = self.get(lease_id)
        if not changed:
            raise EnvironmentFailure(f"lease {lease_id} is {lease.state} and cannot become {state}")
        return lease

    def note_place(self, lease_id: str, place: str) -> Lease:
        """Write down where the environment is: its container id or its folder."""
        with self._lock:
            self._db.execute("UPDATE leases SET place = ? WHERE id = ?", (place, lease_id))
        return self.get(lease_id)

    def lend(self, lease_id: str, program: str, run: str) -> bool:
        """Give an environment that was kept ready for nobody in particular to ``program``; false if it is gone."""
        now = time.time()
        with self._lock:
            changed = self._db.execute(
                "UPDATE leases SET program = ?, run = ?, state = 'in_use', updated = ? "
                "WHERE id = ? AND state = 'ready' AND program = ''",
                (program, run, now, lease_id),
            ).rowcount
            if changed:
                self._db.execute("INSERT INTO moves VALUES (?, 'in_use', ?)", (lease_id, now))
        return bool(changed)

    def measured(self, sizes: Iterable[tuple[str, int]]) -> None:
        """Write down the bytes that environments were seen to hold, as ``(lease id, bytes)``."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("UPDATE leases SET bytes = ? WHERE id = ?", [(size, lease) for lease, size in sizes])
            self._db.execute("COMMIT")

    def reclaimed_bytes(self) -> int:
        """What reclaimed environments held when they were measured last: on the disk no more."""
        with self._lock:
            row = self._db.execute("SELECT COALESCE(SUM(bytes), 0) FROM leases WHERE state = 'reclaimed'").fetchone()
        return int(row[0])

    def find(self, lease_id: str) -> Lease | None:
        rows = self._rows("WHERE id = ?", (lease_id,))
        return rows[0] if rows else None

    def get(self, lease_id: str) -> Lease:
        lease = self.find(lease_id)
        if lease is None:
            raise EnvironmentFailure(f"there is no lease {lease_id}", hint="`thunderctl env ls` lists all of them")
        return lease

    def note_spec(self, lease_id: str, wanted: bytes) -> None:
        """Keep what the environment was asked for: a later daemon needs it to go on using the environment."""
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO specs VALUES (?, ?)", (lease_id, wanted))

    def spec(self, lease_id: str) -> bytes | None:
        """What :meth:`note_spec` kept."""
        with self._lock:
            row = self._db.execute("SELECT wanted FROM specs WHERE lease = ?", (lease_id,)).fetchone()
        return row[0] if row else None

    def moves(self, lease_id: str) -> list[tuple[State, float]]:
        """Every state that the lease went through, with the moment in seconds since the epoch."""
        with self._lock:
            return self._db.execute(
                "SELECT state, at FROM moves WHERE lease = ? ORDER BY rowid", (lease_id,)
            ).fetchall()

    def leases(self, *, active: bool | None = None, program: str | None = None) -> list[Lease]:
        """All leases, oldest first; ``active`` and ``program`` narrow them down."""
        if program is not None:
            found = self._rows("WHERE program = ? ORDER BY created, rowid", (program,))
        else:
            found = self._rows("ORDER BY created, rowid", ())
        return found if active is None else [lease for lease in found if lease.active == active]

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _rows(self, tail: str, values: tuple[str, ...]) -> list[Lease]:
        with self._lock:
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM leases {tail}", values).fetchall()  # noqa: S608
        return [Lease(*row) for row in rows]
