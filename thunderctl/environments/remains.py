"""What may be left of nodes and tool environments, and whether somebody still needs it: looking only, never removing.

One question decides: does a live node hold an active lease for it? A node that is verifiably dead protects nothing.
Where that cannot be told (the node's folder or record is missing) a thing must be older than the grace period.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thunderctl import paths
from thunderctl.environments.lease import ACTIVE
from thunderctl.environments.processes import marked
from thunderctl.node import alive, read_record, same_process
from thunderctl.workers.scratch import read_scratch

GRACE_S = 60.0
"""Age below which nothing is collected that a dead node does not vouch for: it may be in the making."""

Kind = Literal[
    "process", "container", "agent's container", "volume", "network", "folder", "cgroup", "scratch", "image", "node"
]


@dataclass(frozen=True, slots=True)
class GcItem:
    """One thing that may be collected. ``id`` is the full container or network id, the name of a volume, image or node,
    a path, a pid, or the lease of a control group."""

    kind: Kind
    id: str
    name: str
    why: str
    age_s: float
    bytes: int = 0
    node: str | None = None
    run: str | None = None
    program: str | None = None
    lease: str | None = None
    stamp: float = 0.0
    """Start time of a process: its pid alone says nothing. Last use of an image."""
    group: int | None = None
    """Process group that ends with a recorded process."""
    scratch: str | None = None
    """A worker's folder for temporary files: the thing itself, or what a process was given."""


@dataclass(frozen=True, slots=True)
class Kept:
    item: GcItem
    reason: str


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """What the collector needs of a lease."""

    program: str
    run: str
    backend: str
    active: bool
    created: float
    updated: float


@dataclass(frozen=True, slots=True)
class Registration:
    """A container that an agent made for itself and registered with its program (``docker_ids``)."""

    program: str
    container: str
    """Its name or its id, in the agent's words."""
    at: float
    """When it was registered first, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node's folder as found. ``leases`` is ``None`` where its ledger cannot be read."""

    name: str
    folder: Path
    state: Literal["alive", "dead", "unknown"]
    since: float
    leases: dict[str, LeaseRow] | None
    processes: tuple[tuple[int, float, int, str, str], ...]
    scratch: frozenset[str] = frozenset()
    """Folders for temporary files of its workers."""
    registered: tuple[Registration, ...] = ()


def find_nodes() -> dict[str, Node]:
    """Every node folder of this home."""
    root = paths.nodes()
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []
    return {folder.name: find_node(folder) for folder in folders}


def find_node(folder: Path) -> Node:
    """One of them."""
    # The record first: a daemon that starts between the two looks is then seen as dead with its own leases, and the
    # second look right before the removal finds it alive. The other way round its leases would be missed.
    record = read_record(folder)
    leases, processes, scratch, registered = _state(folder / "state.db")
    return Node(
        name=folder.name,
        folder=folder,
        state="unknown" if record is None else "alive" if alive(record) else "dead",
        since=folder.stat().st_mtime if record is None else record.started,
        leases=leases,
        processes=processes,
        scratch=scratch,
        registered=registered,
    )


_Processes = tuple[tuple[int, float, int, str, str], ...]


def _state(file: Path) -> tuple[dict[str, LeaseRow] | None, _Processes, frozenset[str], tuple[Registration, ...]]:
    leases: dict[str, LeaseRow] | None = None
    processes: _Processes = ()
    scratch: frozenset[str] = frozenset()
    registered: tuple[Registration, ...] = ()
    if not file.exists():
        return leases, processes, scratch, registered
    try:
        db = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)
    except sqlite3.Error:
        return leases, processes, scratch, registered
    # A table that was never made is no error: nothing of its sort was ever there to be written down.
    with contextlib.closing(db):
        with contextlib.suppress(sqlite3.Error):
            rows = db.execute("SELECT id, program, run, backend, state, created, updated FROM leases").fetchall()
            leases = {row[0]: LeaseRow(row[1], row[2], row[3], row[4] in ACTIVE, row[5], row[6]) for row in rows}
        with contextlib.suppress(sqlite3.Error):
            processes = tuple(db.execute("SELECT pid, create_time, pgid, kind, name FROM processes").fetchall())
        with contextlib.suppress(sqlite3.Error):
            scratch = frozenset(row[0] for row in db.execute("SELECT scratch FROM workers WHERE scratch != ''"))
        with contextlib.suppress(sqlite3.Error):
            scratch |= {row[0] for row in db.execute("SELECT folder FROM scratch")}
        with contextlib.suppress(sqlite3.Error):
            rows = db.execute("SELECT program, id, at FROM containers ORDER BY rowid").fetchall()
            registered = tuple(Registration(*row) for row in rows)
    return leases, processes, scratch, registered


def judge(nodes: dict[str, Node], item: GcItem) -> tuple[bool, str]:
    """Whether nobody needs ``item`` any more, and why (or why not)."""
    if item.scratch is not None:
        return _judge_scratch(nodes, item.scratch)
    node = nodes.get(item.node or "")
    if node is None:
        return _grace(item.age_s, f"its node {item.node} is unknown" if item.node else "it names no node")
    if node.state == "dead":
        return True, f"its node {node.name} is dead"
    if node.state == "unknown":
        return _grace(item.age_s, f"its node {node.name} has no record of a process")
    if node.leases is None:
        return False, f"the leases of the live node {node.name} cannot be read"
    if item.lease is None:
        return False, f"the node {node.name} lives"
    lease = node.leases.get(item.lease)
    if lease is None:
        return _grace(item.age_s, f"the live node {node.name} has no lease for it")
    if lease.active:
        return False, f"leased by the live node {node.name}"
    return _grace(min(item.age_s, time.time() - lease.updated), "its lease is over")


def _grace(age_s: float, why: str) -> tuple[bool, str]:
    if age_s < GRACE_S:
        return False, f"{why}, but it is younger than {GRACE_S:.0f} s"
    return True, why


def _judge_scratch(nodes: dict[str, Node], scratch: str) -> tuple[bool, str]:
    """A worker may outlive its daemon and be taken over by the next: a live node's word counts before its maker's."""
    found = read_scratch(Path(scratch))
    if found is None:
        return False, "its folder for temporary files does not say any more whose it is"
    groups = {_group_of(pid) for pid in users_of(scratch)}
    for node in nodes.values():
        if node.state == "alive" and (scratch in node.scratch or any(row[2] in groups for row in node.processes)):
            return False, f"a worker of the live node {node.name} uses it"
    if same_process(found.pid, found.create_time):
        return False, f"the process {found.pid}, which made it, lives"
    owner = node_of_scratch(nodes, scratch)
    return True, f"its node {owner} is dead" if owner else "the process that made it is gone"


def node_of_scratch(nodes: dict[str, Node], scratch: str) -> str | None:
    """The dead node whose ledger names the folder."""
    return next((node.name for node in nodes.values() if node.state == "dead" and scratch in node.scratch), None)


def users_of(scratch: str) -> list[int]:
    """Processes that were given ``scratch`` as their folder for temporary files."""
    return [pid for pid, folder in marked(mark="TMPDIR") if folder == scratch]


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return -1
