"""Ports that profiles ask for: free, taken by a node of ours, or taken by somebody else, and by whom."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import psutil

from thunderctl.doctor.finding import Finding, broken, fine, wanted
from thunderctl.errors import ThunderError
from thunderctl.node import alive, read_record
from thunderctl.paths import nodes
from thunderctl.profile import GatewaySpec
from thunderctl.profile_files import list_profiles, load_profile

PORTS_WANTED = 4096
"""Each worker, each connection to one and each published port takes one that the kernel chooses."""


def loopback() -> Iterator[Finding]:
    try:
        with socket.socket() as tried:
            tried.bind(("127.0.0.1", 0))
    except OSError as error:
        yield broken("loopback", f"127.0.0.1 cannot be listened on: {error.strerror}", "sudo ip link set lo up")
        return
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as file:  # noqa: PTH123 - the kernel's, not a file
            first, last = map(int, file.read().split())
    except (OSError, ValueError):
        return
    text = f"{last - first + 1:,} to choose from"
    if last - first + 1 >= PORTS_WANTED:
        yield fine("ports", text)
    else:
        fix = 'sudo sysctl -w net.ipv4.ip_local_port_range="32768 60999"'
        yield wanted("ports", text, "hundreds of connections at once", fix)


def ports_of_own_profiles() -> Iterator[Finding]:
    """Of every profile that this user keeps and that names a port."""
    for entry in list_profiles():
        if entry.kind == "bundled" or entry.problem:
            continue
        try:
            gateway = load_profile(entry.name, ()).profile.gateway
        except ThunderError:
            continue  # `thunderctl profile validate` tells
        if gateway.port:
            yield port(gateway, entry.name)


def port(gateway: GatewaySpec, profile: str) -> Finding:
    """Whether the daemon of ``profile`` could listen."""
    what, number = f"port {gateway.port}", gateway.port
    family = socket.AF_INET6 if ":" in gateway.host else socket.AF_INET
    try:
        with socket.socket(family) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((gateway.host, number))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _taken(what, number, profile)
        fix = f"choose another with -c gateway.port=N, or correct gateway.host ({gateway.host}) of profile {profile}"
        return wanted(what, f"cannot be listened on: {error.strerror}", f"profile {profile}", fix)
    return fine(what, f"free, for profile {profile}")


def _taken(what: str, number: int, profile: str) -> Finding:
    pids = _listeners(number)
    for folder in nodes().glob("*"):
        record = read_record(folder)
        if record is not None and alive(record) and record.url.endswith(f":{number}"):
            return fine(what, f"used by node {folder.name}, which is up with profile {record.profile}")
    who = ", ".join(_named(pid) for pid in pids) or "a process of another user"
    end = f"end it (kill {pids[0]}), or " if pids else ""
    fix = f"{end}choose another port: -c gateway.port=N (0: the kernel chooses)"
    return wanted(what, f"taken by {who}", f"profile {profile}", fix)


def _listeners(number: int) -> list[int]:
    """Processes that listen on the port, as far as this user may see."""
    try:
        found = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return []
    return sorted(
        {c.pid for c in found if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == number and c.pid}
    )


def _named(pid: int) -> str:
    try:
        return f"process {pid} ({psutil.Process(pid).name()})"
    except psutil.Error:
        return f"process {pid}"
