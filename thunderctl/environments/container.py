"""How the container of an environment is described to the engine: its limits, its labels, and what it is kept from.

Everything is said at birth; nothing is changed later. What is not said stays as the engine has it: its seccomp
profile, its masked and read-only paths below ``/proc``, no restart.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import APIError, NotFound
from docker.types import LogConfig, Mount, Ulimit

from thunderctl.environments.backend import Wanted
from thunderctl.environments.lease import Lease
from thunderctl.environments.mounts import checked_mounts
from thunderctl.errors import EnvironmentFailure

KEPT_CAPABILITIES: dict[str, str] = {}
"""Capability → why tools need it. Measured with git (init, commit, stash, apply), python (venv, tests, sqlite), tar,
cp -a, sed -i and chmod as root in the base image: none. CAP_KILL and CAP_SETUID must never stand here: tools could
signal the keeper, or become it."""

KEEPER = "60999:60999"
"""User of the main process; any number that no image gives to its tools."""

_MIB = 1024 * 1024
_SHM_MIB = 64
"""The engine's default, whatever a daemon's settings say; it counts as memory."""
_OPEN_FILES = (1024, 4096)
"""Soft and hard limit. An engine may not go beyond its own, and some programs close every number there can be."""
_OOM_SCORE = 500
"""When the machine itself runs out of memory, tools go before engines and daemons."""


@dataclass(frozen=True, slots=True)
class ToolUser:
    """Who tools are in an environment: the name for the engine, the numbers for files."""

    name: str
    uid: int
    gid: int


def refuse_impossible(wanted: Wanted) -> None:
    """``EnvironmentFailure`` for what no container can have, before anything is made."""
    spec = wanted.spec
    checked_mounts(spec.mounts)
    if spec.ports and wanted.network != "bridge":
        raise EnvironmentFailure(
            f"ports cannot be published with network = {wanted.network}", hint='set network to "bridge" for this task'
        )
    for port in spec.ports:
        if not 1 <= port <= 65_535:
            raise EnvironmentFailure(f"{port} is no port", hint="ports are numbers from 1 to 65535")
    if spec.user is not None and spec.user.partition(":")[0] == KEEPER.partition(":")[0]:
        raise refuse_keeper(spec.user)


def refuse_keeper(name: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"tools cannot be the user {name}: the container's main process is", hint="choose another user"
    )


def labels_of(lease: Lease, owner: str, node: str) -> dict[str, str]:
    return {
        "thunderctl.owner": owner,
        "thunderctl.node": node,
        "thunderctl.run": lease.run,
        "thunderctl.program": lease.program,
        "thunderctl.lease": lease.id,
        "thunderctl.created": f"{lease.created:.3f}",
    }


def description(name: str, wanted: Wanted, labels: Mapping[str, str], network: str, *, quota: bool) -> dict[str, Any]:
    """What the SDK's ``containers.create`` is told besides the image. ``quota``: the engine can limit the layer."""
    limits = wanted.limits
    memory = limits.memory_mib * _MIB
    return {
        "command": ["infinity"],
        "entrypoint": ["sleep"],
        "name": name,
        "hostname": "tools",
        "user": KEEPER,
        "working_dir": "/",
        "labels": dict(labels),
        "init": True,
        "cap_drop": ["ALL"],
        "cap_add": list(KEPT_CAPABILITIES),
        "security_opt": ["no-new-privileges"],
        "pids_limit": limits.pids,
        "mem_limit": memory,
        "memswap_limit": memory,
        "nano_cpus": int(limits.cpus * 1_000_000_000),
        "oom_score_adj": _OOM_SCORE,
        "ipc_mode": "private",
        "shm_size": _SHM_MIB * _MIB,
        "ulimits": [
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="nofile", soft=_OPEN_FILES[0], hard=_OPEN_FILES[1]),
            Ulimit(name="fsize", soft=limits.disk_mib * _MIB, hard=limits.disk_mib * _MIB),
        ],
        "storage_opt": {"size": f"{limits.disk_mib}m"} if quota else None,
        "network_mode": network,
        "ports": {f"{port}/tcp": ("127.0.0.1",) for port in wanted.spec.ports},
        "mounts": [
            Mount(each.target, str(each.source), type="bind", read_only=not each.writable)
            for each in checked_mounts(wanted.spec.mounts)
        ],
        "healthcheck": {"test": ["NONE"]},
        "log_config": LogConfig(type="none"),
    }


def published(told: Mapping[str, Any]) -> dict[int, int]:
    """Port inside → port on this machine's loopback, from what the engine tells of a container."""
    ports = (told.get("NetworkSettings") or {}).get("Ports") or {}
    return {int(inside.partition("/")[0]): int(on[0]["HostPort"]) for inside, on in ports.items() if on}


def how_it_ended(state: Mapping[str, Any], engine_left: bool = False) -> str:
    """Why a container ended, in words, from its ``State``. ``engine_left``: the engine was gone meanwhile."""
    code = state.get("ExitCode")
    if engine_left:
        why = "the engine was restarted"
    elif state.get("OOMKilled") and code == 137:
        why = "out of memory"
    else:
        why = {137: "killed from outside", 143: "stopped from outside", 255: "the engine was restarted"}.get(
            code or 0, "its main process ended"
        )
    return f"{why}, code {code}"


def remove(client: docker.DockerClient, container: str) -> None:
    """Remove a container with its anonymous volumes and return once it is gone; gone already is fine."""
    for _ in range(100):
        try:
            client.api.remove_container(container, v=True, force=True)
            return
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409:  # somebody else is removing it: wait until they have
                raise
            time.sleep(0.1)
    raise EnvironmentFailure(f"the container {container} does not go away")


def kill(client: docker.DockerClient, container: str) -> None:
    try:
        client.api.kill(container)
    except (NotFound, APIError):
        return  # gone, or stopped already
