"""What is left of tool environments and nodes, and whether somebody still needs it: looking only, never removing.

One question decides: does a live node hold an active lease for it? A node that is verifiably dead protects nothing.
Where that cannot be told (the node's folder or record is missing) a thing must be older than the grace period.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import docker
import psutil

from thunderctl import paths
from thunderctl.environments.lease import ACTIVE
from thunderctl.environments.local import folder_bytes
from thunderctl.environments.processes import ancestors, marked
from thunderctl.node import TOLERANCE_S, alive, read_record, same_process

GRACE_S = 60.0
"""Age below which nothing is collected that a dead node does not vouch for: it may be in the making."""

Kind = Literal["process", "container", "volume", "folder", "node"]
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class GcItem:
    """One thing that may be collected. ``id`` is the full container id, volume name, path, pid or node name."""

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
    """Start time of a process: its pid alone says nothing. Of a volume: unused."""
    group: int | None = None
    """Process group that ends with a recorded process."""


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
class Node:
    """A node's folder as found. ``leases`` is ``None`` where its ledger cannot be read."""

    name: str
    folder: Path
    state: Literal["alive", "dead", "unknown"]
    since: float
    leases: dict[str, LeaseRow] | None
    processes: tuple[tuple[int, float, int, str, str], ...]


def find_nodes() -> dict[str, Node]:
    """Every node folder of this home."""
    root = paths.nodes()
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []
    return {folder.name: _node(folder) for folder in folders}


def _node(folder: Path) -> Node:
    # The record first: a daemon that starts between the two looks is then seen as dead with its own leases, and the
    # second look right before the removal finds it alive. The other way round its leases would be missed.
    record = read_record(folder)
    leases, processes = _state(folder / "state.db")
    return Node(
        name=folder.name,
        folder=folder,
        state="unknown" if record is None else "alive" if alive(record) else "dead",
        since=folder.stat().st_mtime if record is None else record.started,
        leases=leases,
        processes=processes,
    )


def _state(file: Path) -> tuple[dict[str, LeaseRow] | None, tuple[tuple[int, float, int, str, str], ...]]:
    if not file.exists():
        return None, ()
    try:
        db = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)
    except sqlite3.Error:
        return None, ()
    leases: dict[str, LeaseRow] | None = None
    processes: list[tuple[int, float, int, str, str]] = []
    # A table that was never made is no error: nothing of its sort was ever there to be written down.
    with contextlib.closing(db):
        with contextlib.suppress(sqlite3.Error):
            rows = db.execute("SELECT id, program, run, backend, state, created, updated FROM leases").fetchall()
            leases = {row[0]: LeaseRow(row[1], row[2], row[3], row[4] in ACTIVE, row[5], row[6]) for row in rows}
        with contextlib.suppress(sqlite3.Error):
            processes = db.execute("SELECT pid, create_time, pgid, kind, name FROM processes").fetchall()
    return leases, tuple(processes)


def judge(nodes: dict[str, Node], item: GcItem) -> tuple[bool, str]:
    """Whether nobody needs ``item`` any more, and why (or why not)."""
    node = nodes.get(item.node or "")
    if node is None:
        return _grace(item.age_s, f"its node {item.node} is unknown")
    if node.state == "dead":
        return True, f"its node {node.name} is dead"
    lease = (node.leases or {}).get(item.lease or "")
    if node.state == "unknown":
        return _grace(item.age_s, f"its node {node.name} has no record of a process")
    if node.leases is None:
        return False, f"the leases of the live node {node.name} cannot be read"
    if lease is None:
        return _grace(item.age_s, f"the live node {node.name} has no lease for it")
    if lease.active:
        return False, f"leased by the live node {node.name}"
    return _grace(min(item.age_s, time.time() - lease.updated), "its lease is over")


def _grace(age_s: float, why: str) -> tuple[bool, str]:
    if age_s < GRACE_S:
        return False, f"{why}, but it is younger than {GRACE_S:.0f} s"
    return True, why


def find_processes(nodes: dict[str, Node]) -> Iterator[GcItem]:
    """Tools that carry a lease of this home, and the recorded processes of dead nodes."""
    owners = {lease: (node, row) for node in nodes.values() for lease, row in (node.leases or {}).items()}
    spared = ancestors()
    for pid, lease in marked():
        if lease not in owners or pid in spared:  # a lease we never gave: another home's
            continue
        node, row = owners[lease]
        try:
            process = psutil.Process(pid)
            started, name = process.create_time(), process.name()
        except psutil.Error:
            continue
        yield GcItem(
            "process", str(pid), name, "", time.time() - started, 0, node.name, row.run, row.program, lease, started
        )
    for node in nodes.values():
        for pid, started, pgid, kind, name in node.processes if node.state == "dead" else ():
            if pid not in spared and (same_process(pid, started) or group_members(pid, started, pgid)):
                yield GcItem(
                    "process", str(pid), f"{kind} {name}", "", time.time() - started, 0, node.name, None, None, None,
                    started, pgid if pgid == pid else None,
                )  # fmt: skip


def group_members(pid: int, started: float, pgid: int) -> list[psutil.Process]:
    """Processes of the group that the recorded process led, itself included if it lives.

    The kernel gives a pid to nobody else while its group has members, so members that are no older than the record,
    belong to this user and are in the session of that number are its children.
    """
    if pgid != pid or pgid == os.getpgrp() or started < psutil.boot_time() - TOLERANCE_S:
        return []
    found = []
    for process in psutil.process_iter():
        try:
            if (
                os.getpgid(process.pid) == pgid
                and os.getsid(process.pid) == pgid
                and process.uids().real == os.getuid()
                and process.create_time() >= started - TOLERANCE_S
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    leader = next((process for process in found if process.pid == pid), None)
    # A leader of another start time took the number over: then the group is not ours.
    return [] if leader is not None and not same_process(pid, started) else found


def find_folders(nodes: dict[str, Node]) -> Iterator[GcItem]:
    """Folders of local environments."""
    for node in nodes.values():
        root = node.folder / "environments"
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            if folder.name.startswith(".") or folder.is_symlink() or not folder.is_dir():
                continue
            row = (node.leases or {}).get(folder.name)
            created = row.created if row else folder.stat().st_mtime
            yield GcItem(
                "folder", str(folder), folder.name, "", time.time() - created, folder_bytes(folder), node.name,
                row.run if row else None, row.program if row else None, folder.name,
            )  # fmt: skip


def find_node_records(nodes: dict[str, Node]) -> Iterator[GcItem]:
    """Records of dead nodes."""
    for node in nodes.values():
        if node.state == "dead":
            yield GcItem("node", node.name, node.name, "", time.time() - node.since, 0, node.name)


def find_containers(client: docker.DockerClient) -> Iterator[GcItem]:
    """Containers that carry the owner label of this home."""
    found = client.api.containers(
        all=True, size=True, filters={"label": [f"thunderctl.owner={paths.owner()}", "thunderctl.lease"]}
    )
    for each in found:
        yield container_item(each["Id"], each["Labels"], each["Names"], each["Created"], each.get("SizeRw") or 0)


def container_item(full_id: str, labels: dict[str, str], names: list[str], created: float, size: int) -> GcItem:
    return GcItem(
        kind="container",
        id=full_id,
        name=(names[0] if names else full_id[:12]).lstrip("/"),
        why="",
        age_s=time.time() - created,
        bytes=int(size),
        node=labels.get("thunderctl.node"),
        run=labels.get("thunderctl.run"),
        program=labels.get("thunderctl.program"),
        lease=labels.get("thunderctl.lease"),
    )


def find_volumes(client: docker.DockerClient, containers: list[GcItem]) -> Iterator[GcItem]:
    """Anonymous volumes of ``containers``. One without its container bears no sign of ours and is nobody's to take."""
    sizes: dict[str, int] | None = None
    for item in containers:
        try:
            mounts: list[dict[str, Any]] = client.api.inspect_container(item.id)["Mounts"]
        except docker.errors.NotFound:
            continue
        for mount in mounts:
            if mount.get("Type") != "volume" or not _ANONYMOUS.fullmatch(mount.get("Name", "")):
                continue
            if sizes is None:  # the engine measures everything it has for this answer: ask once, and only if needed
                sizes = {v["Name"]: (v.get("UsageData") or {}).get("Size", 0) for v in client.df()["Volumes"] or []}
            name = mount["Name"]
            yield dataclasses.replace(
                item, kind="volume", id=name, name=name[:12], why=f"of {item.name}", bytes=max(0, sizes.get(name, 0))
            )
