"""Garbage collection: a plan that a person can read, and its execution, which trusts the plan in nothing.

Right before each removal the thing is looked at again; what came into use since is left alone and said so. Two
collectors take turns (``gc.lock``). Without a Docker engine only what lives on this machine's own disk is collected.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import docker
import psutil
from docker.errors import APIError, DockerException, NotFound

from thunderctl import paths
from thunderctl.environments import remains
from thunderctl.environments.docker import connect, remove
from thunderctl.environments.lease import LeaseLedger
from thunderctl.environments.local import remove_folder
from thunderctl.environments.remains import GcItem, Kept, Node, container_item, judge
from thunderctl.errors import EnvironmentFailure, ThunderError
from thunderctl.node import node_is_alive, same_process

PASSES = 3
"""Removing one thing may uncover another; more looks than this mean that somebody makes new ones."""
TERM_S = 5.0
"""Seconds between SIGTERM and SIGKILL for the processes of a dead node."""


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What would be removed, what would not and why, and remarks for the person."""

    items: list[GcItem]
    kept: list[Kept]
    notes: list[str]
    older_than_s: float = 0.0
    run: str | None = None

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)


@dataclass(frozen=True, slots=True)
class GcResult:
    """What became of a plan. Each of its items is in exactly one of the three lists."""

    removed: list[GcItem] = field(default_factory=list)
    came_into_use: list[Kept] = field(default_factory=list)
    failed: list[Kept] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.removed)


def plan(*, older_than_s: float = 0.0, run: str | None = None) -> GcPlan:
    """Look at everything of this home. ``older_than_s`` and ``run`` narrow the plan down."""
    with _engine() as (client, missing):
        return _plan(client, missing, older_than_s, run)


def carry_out(todo: GcPlan) -> GcResult:
    """Remove what ``todo`` says and what turns up on the way, each after a second look.

    The record of a dead node goes last, when a further look has found nothing else of it: a process that was being
    started while its daemon died shows up late, and without the record it would have to wait for the grace period.
    """
    result = GcResult()
    with _turn(), _engine() as (client, missing):
        tried: set[tuple[str, str]] = set()
        current = todo
        for _ in range(PASSES):
            fresh = [item for item in current.items if item.kind != "node" and (item.kind, item.id) not in tried]
            for item in fresh:
                tried.add((item.kind, item.id))
                _carry_out(client, item, result)
            current = _plan(client, missing, todo.older_than_s, todo.run)
            if not any(item.kind != "node" for item in current.items):
                break
        records = [item for item in [*todo.items, *current.items] if item.kind == "node"]
        for item in {item.id: item for item in records}.values():
            there = [*current.items, *(kept.item for kept in current.kept)]
            _carry_out(client, item, result, left=sum(x.node == item.id and x.kind != "node" for x in there))
    return result


def _plan(client: docker.DockerClient | None, missing: str | None, older_than_s: float, run: str | None) -> GcPlan:
    nodes = remains.find_nodes()
    notes = [] if client is not None else [f"containers were not looked at: {missing}"]
    items: list[GcItem] = []
    kept: list[Kept] = []
    found = list(remains.find_processes(nodes))
    if client is not None:
        found += remains.find_containers(client)
    for item in [*found, *remains.find_folders(nodes)]:
        _sort(nodes, item, older_than_s, run, items, kept)
    if client is not None:
        gone = [item for item in items if item.kind == "container"]
        items += remains.find_volumes(client, gone)
    for item in remains.find_node_records(nodes):
        reason = _node_stays(nodes[item.id], kept, client is not None)
        if reason is None:
            _sort(nodes, item, older_than_s, run, items, kept)
        else:
            kept.append(Kept(item, reason))
    return GcPlan(items, [x for x in kept if run is None or x.item.run == run], notes, older_than_s, run)


def _sort(
    nodes: dict[str, Node], item: GcItem, older_than_s: float, run: str | None, items: list[GcItem], kept: list[Kept]
) -> None:
    gone, why = judge(nodes, item)
    if not gone:
        kept.append(Kept(item, why))
    elif run is not None and item.run != run:
        kept.append(Kept(item, f"it does not belong to the run {run}"))
    elif item.age_s < older_than_s:
        kept.append(Kept(item, f"younger than {older_than_s:.0f} s"))
    else:
        items.append(dataclasses.replace(item, why=why))


def _node_stays(node: Node, kept: list[Kept], engine: bool) -> str | None:
    """Why the record of a dead node cannot go yet: it is what proves that its other remains are nobody's."""
    left = sum(1 for each in kept if each.item.node == node.name and each.item.kind != "node")
    if left:
        return f"{left} of its remains stay"
    if not engine and any(row.backend == "docker" and row.active for row in (node.leases or {}).values()):
        return "it may have containers, and no Docker engine answers"
    return None


def _carry_out(client: docker.DockerClient | None, item: GcItem, result: GcResult, left: int = 0) -> None:
    try:
        reason = f"{left} of its remains are still there" if left > 0 else _needed_again(client, item, result)
        if reason is not None:
            result.came_into_use.append(Kept(item, reason))
            return
        _remove(client, item)
        result.removed.append(item)
    except (ThunderError, DockerException, OSError, sqlite3.Error, psutil.Error) as error:
        result.failed.append(Kept(item, str(error)))


def _needed_again(client: docker.DockerClient | None, item: GcItem, result: GcResult) -> str | None:
    """The second look: ``None`` if the item is still what the plan says and still needed by nobody."""
    if item.kind == "node":
        if node_is_alive(paths.nodes() / item.id):
            return f"the node {item.id} lives"
        stuck = sum(1 for each in [*result.failed, *result.came_into_use] if each.item.node == item.id)
        return f"{stuck} of its remains could not be removed" if stuck else None
    now = item
    if item.kind == "container" and client is not None:
        try:
            told = client.api.inspect_container(item.id)
        except NotFound:
            return None
        labels = told["Config"]["Labels"] or {}
        if labels.get("thunderctl.owner") != paths.owner():
            return "it is not ours"
        now = container_item(told["Id"], labels, [told["Name"]], 0, 0)
        now = dataclasses.replace(now, age_s=item.age_s)
    if item.kind == "volume" and client is not None:
        users = client.api.containers(all=True, filters={"volume": item.id})
        return f"used by {users[0]['Names'][0].lstrip('/')}" if users else None
    if item.kind == "process" and item.group is None and not same_process(int(item.id), item.stamp):
        return None  # it ended by itself; the removal finds nothing
    gone, why = judge(remains.find_nodes(), now)
    return None if gone else why


def _remove(client: docker.DockerClient | None, item: GcItem) -> None:
    if item.kind == "process":
        _end_process(item)
    elif item.kind == "folder":
        remove_folder(Path(item.id), item.lease or "")
    elif item.kind == "node":
        _close_node(item.id)
    elif client is None:
        raise EnvironmentFailure("the Docker engine does not answer any more")
    elif item.kind == "container":
        remove(client, item.id)
    else:
        with contextlib.suppress(NotFound):  # it went with its container
            client.api.remove_volume(item.id)


def _end_process(item: GcItem) -> None:
    pid = int(item.id)
    if item.group is not None:
        processes = remains.group_members(pid, item.stamp, item.group)
    else:
        processes = [psutil.Process(pid)] if same_process(pid, item.stamp) else []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            # A tool of a dead node has no state worth a farewell; an engine gives its shared memory back.
            process.kill() if item.lease else process.terminate()
    _, still = psutil.wait_procs(processes, timeout=TERM_S)
    for process in still:
        with contextlib.suppress(psutil.Error):
            process.kill()
    _, still = psutil.wait_procs(still, timeout=TERM_S)
    if still:
        raise EnvironmentFailure(f"process {pid} does not end")


def _close_node(name: str) -> None:
    """Close a dead node's leases and take its record away. Its logs and its ledger stay."""
    folder = paths.nodes() / name
    if (folder / "state.db").exists():
        ledger = LeaseLedger(folder / "state.db")
        try:
            for lease in ledger.leases():
                if lease.state != "reclaimed":
                    ledger.move(lease.id, "reclaimed")
        finally:
            ledger.close()
    shutil.rmtree(folder / "tools-bin", ignore_errors=True)
    with contextlib.suppress(OSError):
        (folder / "environments").rmdir()
    (folder / "node.json").unlink(missing_ok=True)


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Wait until no other collector of this home is at work."""
    lock = paths.home() / "gc.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _engine() -> Iterator[tuple[docker.DockerClient | None, str | None]]:
    try:
        client = connect()
    except EnvironmentFailure as error:
        yield None, error.message
        return
    try:
        yield client, None
    except APIError as error:
        raise EnvironmentFailure(f"the Docker engine refused: {error.explanation}") from error
    finally:
        client.close()
