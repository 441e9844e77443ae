"""A node: the folder of one daemon, and the record that says which process owns it.

A node is alive as long as the process that wrote ``node.json`` lives: same pid, same start time. A pid alone proves
nothing, since the kernel hands it out again. Everybody who wants to know asks here.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from thunderctl import paths

TOLERANCE_S = 1.0
"""Start times are computed from clock ticks and the boot time; two readings may differ by a fraction of a second."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What ``node.json`` says. Times are seconds since the epoch."""

    pid: int
    create_time: float
    url: str
    profile: str
    digest: str
    started: float


def node_dir(name: str) -> Path:
    """The folder of the node ``name``; not made here."""
    return paths.nodes() / paths.safe_name(name, "the node name")


def write_node(folder: Path, record: NodeRecord) -> None:
    """Put ``node.json`` in place, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"node.json.{os.getpid()}"
    fresh.write_text(json.dumps(dataclasses.asdict(record), indent=1) + "\n")
    fresh.replace(folder / "node.json")


def read_record(folder: Path) -> NodeRecord | None:
    """The record in ``folder``; ``None`` if there is none, or none that can be understood."""
    try:
        said = json.loads((folder / "node.json").read_text())
        return NodeRecord(
            pid=int(said["pid"]),
            create_time=float(said["create_time"]),
            url=str(said.get("url", "")),
            profile=str(said.get("profile", "")),
            digest=str(said.get("digest", "")),
            started=float(said.get("started", said["create_time"])),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_node(name: str) -> NodeRecord | None:
    """The record of the node ``name``, dead or alive."""
    return read_record(node_dir(name))


def same_process(pid: int, create_time: float) -> bool:
    """Whether ``pid`` is still the process that started at ``create_time``, and not a zombie."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - create_time) <= TOLERANCE_S and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def alive(record: NodeRecord) -> bool:
    return same_process(record.pid, record.create_time)


def node_is_alive(folder: Path) -> bool:
    """Whether the process that owns the node folder lives."""
    record = read_record(folder)
    return record is not None and alive(record)
