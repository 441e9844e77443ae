"""One thing of a plan, carried out: a second look, then its end. Trusts the plan in nothing.

``needed_again`` says what came into use since; ``remove`` takes away what is still nobody's. What is gone already is
as good as removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from pathlib import Path

import docker
import psutil
from docker.errors import NotFound

from thunderctl import paths
from thunderctl.environments import cgroup, remains
from thunderctl.environments.docker import remove as remove_container
from thunderctl.environments.image_store import record, remove_images
from thunderctl.environments.lease import LeaseLedger
from thunderctl.environments.local import remove_folder
from thunderctl.environments.registered import stop_and_remove
from thunderctl.environments.remains import GcItem, judge
from thunderctl.environments.remains_engine import container_item, still_registered, used_since, user_of
from thunderctl.environments.remains_machine import group_members
from thunderctl.errors import EnvironmentFailure
from thunderctl.node import node_is_alive, same_process
from thunderctl.workers.scratch import read_scratch

TERM_S = 5.0
"""Seconds between SIGTERM and SIGKILL for the processes of a dead node."""
POLL_S = 0.02


class CameIntoUse(Exception):
    """Found out at the last moment; says by whom."""


def needed_again(client: docker.DockerClient | None, item: GcItem) -> str | None:
    """``None`` if the item is still what the plan says, and still needed by nobody; else why not."""
    if item.kind == "node":
        return f"the node {item.id} lives" if node_is_alive(paths.nodes() / item.id) else None
    if item.kind == "image":
        return used_since(item)
    now = item
    if item.kind == "process" and item.group is None and not same_process(int(item.id), item.stamp):
        return None  # it ended by itself; the removal finds nothing
    if item.kind == "scratch":
        if read_scratch(Path(item.id)) is None:
            return None
        users = remains.users_of(item.id)
        if users:
            return f"the process {users[0]} uses it"
    if client is not None and item.kind in ("container", "volume", "network", "agent's container"):
        if item.kind == "agent's container":
            return still_registered(remains.find_nodes(), client.api.containers(all=True), item)
        if item.kind == "container":
            try:
                told = client.api.inspect_container(item.id)
            except NotFound:
                return None
            labels = told["Config"]["Labels"] or {}
            if labels.get("thunderctl.owner") != paths.owner():
                return "it is not ours"
            now = container_item(told["Id"], labels, [told["Name"]], 0, 0)
            now = dataclasses.replace(now, age_s=item.age_s)
        else:
            user = user_of(item, client.api.containers(all=True))
            if user is not None:
                return f"used by {user}"
    gone, why = judge(remains.find_nodes(), now)
    return None if gone else why


def remove(client: docker.DockerClient | None, item: GcItem) -> None:
    """Raises ``CameIntoUse``, or whatever made it fail."""
    if item.kind == "process":
        _end_process(item)
    elif item.kind == "folder":
        remove_folder(Path(item.id), item.lease or "")
    elif item.kind == "cgroup":
        cgroup.end_lease(item.id)
        if item.id in cgroup.left():
            raise EnvironmentFailure(f"a process in the control group of the lease {item.id} does not end")
    elif item.kind == "scratch":
        if read_scratch(Path(item.id)) is not None:
            shutil.rmtree(item.id)
    elif item.kind == "node":
        _close_node(item.id)
    elif client is None:
        raise EnvironmentFailure("the Docker engine does not answer any more")
    else:
        _remove_from_engine(client, item)


def _remove_from_engine(client: docker.DockerClient, item: GcItem) -> None:
    with contextlib.suppress(NotFound):  # a volume goes with its container, and others may have been faster
        if item.kind == "container":
            remove_container(client, item.id)
        elif item.kind == "agent's container":
            stop_and_remove(client, item.id)
        elif item.kind == "network":
            client.api.remove_network(item.id)
        elif item.kind == "volume":
            client.api.remove_volume(item.id)
        elif item.id in record():
            kept = remove_images(client, [item.id]).kept
            if kept:
                raise CameIntoUse(kept[item.id])


def _end_process(item: GcItem) -> None:
    pid = int(item.id)
    if item.group is not None:
        processes = group_members(pid, item.stamp, item.group)
    else:
        processes = [psutil.Process(pid)] if same_process(pid, item.stamp) else []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            # A tool of a dead node has no state worth a farewell; an engine gives its shared memory back.
            process.kill() if item.lease else process.terminate()
    for process in _still_running(processes, TERM_S):
        with contextlib.suppress(psutil.Error):
            process.kill()
    if _still_running(processes, TERM_S):
        raise EnvironmentFailure(f"process {pid} does not end")


def _still_running(processes: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    """Those that have not ended after so long. A zombie has: the init of many a container collects it late or never."""
    end = time.monotonic() + within_s
    while True:
        _, processes = psutil.wait_procs(processes, timeout=POLL_S)  # collects those that are our own children
        processes = [each for each in processes if not _is_somebodys_zombie(each)]
        if not processes or time.monotonic() > end:
            return processes


def _is_somebodys_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE and process.ppid() != os.getpid()
    except psutil.NoSuchProcess:
        return True


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
