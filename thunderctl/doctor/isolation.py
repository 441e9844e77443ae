"""Where tools run: a Docker engine, or local folders inside bubblewrap and control groups."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from docker.errors import DockerException

from thunderctl.doctor.finding import Finding, fine, install, read_number, runs_systemd, start_service, wanted
from thunderctl.environments import cgroup
from thunderctl.environments.docker import connect
from thunderctl.errors import EnvironmentFailure
from thunderctl.report.tables import size

DOCKER_PURPOSE = "environments.backend docker"
SOCKET = Path("/var/run/docker.sock")
IMAGES_BYTES = 10 * 2**30
"""A task's image takes one to three GiB."""


def docker() -> Iterator[Finding]:
    try:
        client = connect()
    except EnvironmentFailure as missing:
        yield _no_docker(missing.message)
        return
    try:
        told: dict[str, Any] = client.info()
    except (DockerException, requests.RequestException) as error:
        yield wanted("Docker engine", f"answers, but not sensibly: {error}", DOCKER_PURPOSE, _start())
        return
    finally:
        client.close()
    yield fine(
        "Docker engine", f"{told.get('ServerVersion')}, {told.get('Driver')}, {told.get('Containers')} containers"
    )
    yield from _room_for_images(Path(told.get("DockerRootDir") or "/nowhere"))
    unlimited = [
        name for name, key in (("memory", "MemoryLimit"), ("processes", "PidsLimit")) if told.get(key) is False
    ]
    if unlimited:
        yield wanted(
            "Docker limits", f"the engine cannot limit {' and '.join(unlimited)}", "containers that tools cannot abuse",
            "switch the kernel's control groups on (kernel line: cgroup_enable=memory), then restart",
        )  # fmt: skip


def _room_for_images(root: Path) -> Iterator[Finding]:
    """Only where its folder can be seen: it may be another machine's."""
    try:
        free = shutil.disk_usage(root).free
    except OSError:
        return
    text = f"{size(free)} free at {root}"
    if free >= IMAGES_BYTES:
        yield fine("disk for images", text)
    else:
        yield wanted("disk for images", text, "task images", "docker system prune, or `thunderctl gc --images`")


def _no_docker(message: str) -> Finding:
    """Not there, not started, not allowed, or looked for in the wrong place."""
    host = os.environ.get("DOCKER_HOST", "")
    socket = Path(host.removeprefix("unix://")) if host.startswith("unix://") else SOCKET
    if host and not host.startswith("unix://"):
        found, fix = f"nothing answers at DOCKER_HOST={host}", "unset DOCKER_HOST, or start the engine there"
    elif _is_socket(socket) and not os.access(socket, os.W_OK):
        found, fix = f"you may not use {socket}", "sudo usermod -aG docker $USER, then log in again"
    elif host and not socket.exists():
        found, fix = f"DOCKER_HOST={host}, and there is no such socket", f"unset DOCKER_HOST, or {_start()}"
    elif shutil.which("dockerd") or shutil.which("podman") or socket.exists():
        found, fix = "installed, but stopped: nothing answers", _start()
    else:
        found, fix = "not installed", f"{install('docker.io', dnf='moby-engine', pacman='docker', apk='docker')}"
    if "denied" in message.lower() and "usermod" not in fix:
        found, fix = "you may not use it: permission denied", "sudo usermod -aG docker $USER, then log in again"
    return wanted("Docker engine", found, DOCKER_PURPOSE, fix)


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


def _start() -> str:
    if shutil.which("dockerd") is None and shutil.which("podman"):
        return "systemctl --user start podman.socket, and export DOCKER_HOST=unix://$XDG_RUNTIME_DIR/podman/podman.sock"
    return start_service("docker", "sudo sh -c 'dockerd >/var/log/dockerd.log 2>&1 &'")


def bubblewrap() -> Iterator[Finding]:
    purpose = "local environments that cannot see your files"
    found = shutil.which("bwrap")
    if found is None:
        yield wanted("bubblewrap", "not found", purpose, install("bubblewrap"))
        return
    line = [found, "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
    try:
        tried = subprocess.run(line, capture_output=True, text=True, timeout=20, check=False)
        trouble = "" if tried.returncode == 0 else (tried.stderr.strip() or f"exit code {tried.returncode}")
    except (OSError, subprocess.TimeoutExpired) as error:
        trouble = str(error)
    if not trouble:
        yield fine("bubblewrap", found)
        return
    yield wanted("bubblewrap", f"does not work: {trouble}", purpose, _let_users_have_namespaces())


def _let_users_have_namespaces() -> str:
    restricted = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
    if read_number(restricted) == 1:
        return "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    if read_number("/proc/sys/kernel/unprivileged_userns_clone") == 0:
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if read_number("/proc/sys/user/max_user_namespaces") == 0:
        return "sudo sysctl -w user.max_user_namespaces=15000"
    return "use Docker for tools; inside a container, run it with --privileged"


def control_groups() -> Iterator[Finding]:
    limited = cgroup.permitted().limited
    missing = [name for name in cgroup.CONTROLLERS if name not in limited]
    if not missing:
        yield fine("control groups", ", ".join(cgroup.CONTROLLERS))
        return
    yield wanted(
        "control groups", f"none to be had for {', '.join(missing)}", "limits of a local environment as a whole",
        "systemd-run --user --scope -p Delegate=yes thunderctl up, or use Docker" if runs_systemd() else "use Docker",
    )  # fmt: skip
