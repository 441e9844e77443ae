"""``doctor``: what this machine has of what thunderctl can use, and what is missing for what."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass

import psutil
import typer
from rich.table import Table

from thunderctl import launcher, paths
from thunderctl.cli.show import AsJson, out, print_json
from thunderctl.environments import docker as docker_backend
from thunderctl.errors import ExitCode, ThunderError
from thunderctl.report.tables import size
from thunderctl.workers.engine import installed_engines


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    found: str
    ok: bool
    needed_for: str
    """Empty: for everything; then a miss is a failure."""


def _python() -> Finding:
    return Finding("Python", platform.python_version(), True, "")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    text = f"{size(memory.total)} in all, {size(memory.available)} free, {os.cpu_count()} cores"
    return Finding("memory and cores", text, memory.available > 3 * 2**30, "the CPU engine (3 GiB free)")


def _git() -> Finding:
    found = shutil.which("git")
    return Finding("git", found or "not found", found is not None, "")


def _disk() -> Finding:
    try:
        launcher.room_for(paths.home(), launcher.SPACE_WANTED)
        launcher.room_for(paths.cache(), launcher.SPACE_WANTED)
    except ThunderError as error:
        return Finding("disk", error.message, False, "")
    place = paths.home()
    while not place.exists():
        place = place.parent
    return Finding("disk", f"{size(shutil.disk_usage(place).free)} free at {paths.home()}", True, "")


def _gpus() -> Finding:
    tool = shutil.which("nvidia-smi")
    text = "none"
    if tool:
        query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
        text = "; ".join(answer.stdout.strip().splitlines()) or answer.stderr.strip() or "none"
    return Finding("GPUs", text, text != "none", "profiles with engine.kind cuda")


def _docker() -> Finding:
    try:
        client = docker_backend.connect()
        found = f"answers, version {client.version()['Version']}"
        client.close()
    except ThunderError as missing:
        return Finding("Docker engine", missing.message, False, "environments.backend docker")
    return Finding("Docker engine", found, True, "environments.backend docker")


def _bubblewrap() -> Finding:
    found = shutil.which("bwrap")
    return Finding("bubblewrap", found or "not found", found is not None, "stronger isolation of local environments")


def _engines() -> Finding:
    engines = installed_engines()
    text = ", ".join(f"{e.kind} {e.version}" for e in engines) or "none yet"
    return Finding("engine environments", text, bool(engines), "starting workers (installed on first use)")


CHECKS: list[Callable[[], Finding]] = [_python, _memory, _disk, _git, _gpus, _docker, _bubblewrap, _engines]


def doctor(as_json: AsJson = False) -> None:
    """Look at this machine: what is there, and what is missing for what. Exit code 3 if nothing could run at all.

    Example:

        thunderctl doctor
    """
    findings = [check() for check in CHECKS]
    broken = [f for f in findings if not f.ok and not f.needed_for]
    if as_json:
        print_json({"findings": [asdict(f) for f in findings], "ok": not broken})
    else:
        table = Table("", "found", "")
        for f in findings:
            mark = (
                "[green]ok[/]"
                if f.ok
                else ("[red]missing[/]" if not f.needed_for else f"[yellow]wanted for {f.needed_for}[/]")
            )
            table.add_row(f.what, f.found, mark)
        out.print(table)
    if broken:
        raise typer.Exit(ExitCode.PREFLIGHT)
