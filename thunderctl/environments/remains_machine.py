"""What is left on this machine itself: processes, folders, control groups and the records of dead nodes.

Looking only. Every process is known by its pid and its start time, and none that this one descends from is ever named.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from thunderctl.environments import cgroup
from thunderctl.environments.disk import folder_bytes
from thunderctl.environments.processes import ancestors, marked
from thunderctl.environments.remains import GcItem, Node, judge, node_of_scratch
from thunderctl.node import TOLERANCE_S, same_process
from thunderctl.workers.scratch import find_scratch


def find_here(nodes: dict[str, Node]) -> Iterator[GcItem]:
    """Everything but the records of nodes, in the order in which it goes."""
    scratch = list(find_scratch_folders(nodes))
    yield from find_processes(nodes, scratch)
    yield from find_folders(nodes)
    yield from find_groups(nodes)
    yield from scratch


def find_processes(nodes: dict[str, Node], scratch: list[GcItem]) -> Iterator[GcItem]:
    """Tools that carry a lease of this home, the recorded processes of dead nodes, and workers that nobody recorded."""
    owners = {lease: (node, row) for node in nodes.values() for lease, row in (node.leases or {}).items()}
    spared = set(ancestors())
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
        spared.add(pid)
    for node in nodes.values():
        for pid, started, pgid, kind, name in node.processes if node.state == "dead" else ():
            members = {process.pid for process in group_members(pid, started, pgid)}
            if pid not in spared and (members or same_process(pid, started)):
                yield GcItem(
                    "process", str(pid), f"{kind} {name}", "", time.time() - started, 0, node.name, None, None, None,
                    started, pgid if pgid == pid else None,
                )  # fmt: skip
                spared |= {pid, *members}
    yield from _unrecorded(nodes, scratch, spared)


def _unrecorded(nodes: dict[str, Node], scratch: list[GcItem], known: set[int]) -> Iterator[GcItem]:
    """What else runs of a worker whose daemon is gone: it was started a moment before its daemon was killed, say."""
    given = {item.id: item for item in scratch if judge(nodes, item)[0]}
    for pid, folder in marked(mark="TMPDIR") if given else ():
        if folder not in given or pid in known:
            continue
        try:
            process = psutil.Process(pid)
            started, name = process.create_time(), process.name()
        except psutil.Error:
            continue
        yield GcItem(
            "process", str(pid), f"worker's {name}", "", time.time() - started, node=given[folder].node, stamp=started,
            scratch=folder,
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


def find_groups(nodes: dict[str, Node]) -> Iterator[GcItem]:
    """Control groups of leases of this home whose folder is gone; else they go with the folder."""
    left = cgroup.left()
    for node in nodes.values() if left else ():
        for lease in left:
            row = (node.leases or {}).get(lease)
            if row is not None and not (node.folder / "environments" / lease).exists():
                yield GcItem(
                    "cgroup", lease, lease, "", time.time() - row.created, 0, node.name, row.run, row.program, lease
                )


def find_scratch_folders(nodes: dict[str, Node]) -> Iterator[GcItem]:
    """Folders for temporary files that workers of this home were given."""
    for each in find_scratch(Path(folder).parent for node in nodes.values() for folder in node.scratch):
        folder = str(each.folder)
        yield GcItem(
            "scratch", folder, folder, "", time.time() - each.made, folder_bytes(each.folder),
            node_of_scratch(nodes, folder), scratch=folder,
        )  # fmt: skip


def find_node_records(nodes: dict[str, Node]) -> Iterator[GcItem]:
    """Records of dead nodes."""
    for node in nodes.values():
        if node.state == "dead":
            yield GcItem("node", node.name, node.name, "", time.time() - node.since, 0, node.name)
