"""The machine itself: Python, memory, programs, and the limits of the kernel that hundreds of agents come near to.

A limit is looked at only where something of ours meets it; each says what.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from thunderctl.doctor.finding import Finding, State, broken, fine, install, read_number, wanted
from thunderctl.report.tables import size

OLDEST_PYTHON = (3, 11)
MEMORY_WANTED = 3 * 2**30
"""Free bytes that the CPU engine takes with the small model and a cache for eight agents."""
DESCRIPTORS_AN_AGENT = 3
"""In the daemon: its call, the call on to the worker, its command in a tool environment."""
DESCRIPTORS_BESIDE = 256
OPEN_FILES_WANTED = 4096
PROCESSES_WANTED = 16_384
"""256 environments with some sixty threads each."""
BACKLOG_WANTED = 1024
"""All agents of a run connect at once; the daemon asks for a queue of 4096."""
WATCHES_WANTED = 512
"""On control groups of version 2 the engine's shim watches each container with an inotify instance of its own."""
MAPS_WANTED = 65_530
"""The kernel's own default; engines map every shard of a model and every library."""
SHARED_MEMORY_WANTED = 2**30
"""Worker processes of one engine exchange tensors through /dev/shm."""


def python() -> Iterator[Finding]:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        yield broken(
            "Python", found, f"install Python {'.'.join(map(str, OLDEST_PYTHON))} or newer, and thunderctl in it"
        )
    elif importlib.util.find_spec("ensurepip") is None:
        fix = install(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv", dnf="python3", apk="python3")
        yield wanted("Python", f"{found}, but without ensurepip", "making engine environments", fix)
    else:
        yield fine("Python", found)


def memory() -> Iterator[Finding]:
    told = psutil.virtual_memory()
    text = f"{size(told.available)} free of {size(told.total)}, {os.cpu_count()} cores"
    if told.available >= MEMORY_WANTED:
        yield fine("memory and cores", text)
        return
    fix = "end other programs (`thunderctl down` if a node of yours is idle), or use -c workers.kv_tokens=65536"
    yield wanted("memory and cores", text, f"the CPU engine ({size(MEMORY_WANTED)} free)", fix)


def programs() -> Iterator[Finding]:
    for name in ("git", "bash"):
        found = shutil.which(name)
        yield fine(name, found) if found else broken(name, "not found", install(name))


def open_files() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= OPEN_FILES_WANTED:
        yield fine("open files", "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,}")
        return
    agents = max(0, (soft - DESCRIPTORS_BESIDE) // DESCRIPTORS_AN_AGENT)
    fix = "ulimit -n 65536"
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES_WANTED:
        fix = "add `* - nofile 65536` to /etc/security/limits.conf and log in again"
    elif hard != resource.RLIM_INFINITY:
        fix = f"ulimit -n {min(hard, 65536)}"
    yield wanted("open files", f"{soft:,}", f"more than about {agents} agents at once", fix)


def processes() -> Iterator[Finding]:
    """The tightest of several limits."""
    limits: list[tuple[int, str, str]] = []
    for path, fix in (
        ("/proc/sys/kernel/pid_max", "sudo sysctl -w kernel.pid_max=4194304"),
        ("/proc/sys/kernel/threads-max", "sudo sysctl -w kernel.threads-max=500000"),
    ):
        if (limit := read_number(path)) is not None:
            limits.append((limit, path.replace("/proc/sys/", "").replace("/", "."), fix))
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY and os.geteuid() != 0:
        limits.append((soft, "ulimit -u", "ulimit -u 65536, or `* - nproc 65536` in /etc/security/limits.conf"))
    limits += _limits_of_own_groups()
    limit, where, fix = min(limits, default=(PROCESSES_WANTED, "", ""))
    if limit >= PROCESSES_WANTED:
        yield fine("processes", f"{limit:,} ({where})" if where else "no limit known")
    else:
        yield wanted("processes", f"{limit:,} ({where})", "hundreds of tool environments at once", fix)


def _limits_of_own_groups() -> Iterator[tuple[int, str, str]]:
    """``pids.max`` of every control group above this process, in either version."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers in ("", "pids"):
            root = Path("/sys/fs/cgroup") / controllers
            place = root / group.lstrip("/")
            while place != root and root in place.parents:
                if (limit := read_number(str(place / "pids.max"))) is not None:
                    yield (
                        limit,
                        f"pids.max of {place}",
                        f"echo max | sudo tee {place}/pids.max (systemd: TasksMax=infinity)",
                    )
                place = place.parent


def kernel() -> Iterator[Finding]:
    rows = [
        ("connection queue", "/proc/sys/net/core/somaxconn", BACKLOG_WANTED, "bursts of hundreds of connections", 4096),
        ("memory maps", "/proc/sys/vm/max_map_count", MAPS_WANTED, "engines with large models", 262_144),
    ]
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        watches = "/proc/sys/fs/inotify/max_user_instances"
        rows.append(("inotify instances", watches, WATCHES_WANTED, "hundreds of containers at once", 1024))
    for what, path, least, purpose, better in rows:
        found = read_number(path)
        if found is None:
            continue
        name = path.removeprefix("/proc/sys/").replace("/", ".")
        text = f"{found:,} ({name})"
        yield fine(what, text) if found >= least else wanted(what, text, purpose, f"sudo sysctl -w {name}={better}")
    if read_number("/proc/sys/vm/overcommit_memory") == 2:
        yield wanted(
            "memory reservations", "refused beyond the memory there is (vm.overcommit_memory is 2)",
            "engines and many tools, which reserve what they never touch", "sudo sysctl -w vm.overcommit_memory=0",
        )  # fmt: skip


def shared_memory() -> Iterator[Finding]:
    place = Path("/dev/shm")  # noqa: S108 - looked at, not written
    if not place.is_dir():
        yield wanted("shared memory", "no /dev/shm", "workers on several GPUs", "sudo mount -t tmpfs tmpfs /dev/shm")
        return
    total = shutil.disk_usage(place).total
    fix = "sudo mount -o remount,size=8g /dev/shm (in a container: docker run --shm-size 8g)"
    state = State.ok if total >= SHARED_MEMORY_WANTED else State.wanted
    purpose = "workers on several GPUs"
    yield Finding("shared memory", size(total), state, *(() if state is State.ok else (purpose, fix)))
