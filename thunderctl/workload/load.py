"""Finds workloads, bundled ones and the user's own, and loads them with their tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thunderctl import paths
from thunderctl.errors import WorkloadError
from thunderctl.workload.base import Task, Workload
from thunderctl.workload.files import read_section, read_yaml
from thunderctl.workload.kinds import KINDS, Kind


def list_workloads() -> list[str]:
    """Names of the bundled ones."""
    return sorted(p.parent.name for p in paths.bundled_workloads().glob("*/workload.yaml"))


def find_workload(name_or_path: str) -> Path:
    """Folder of a bundled workload by name, or a folder of the user's own by path."""
    if "/" in name_or_path or name_or_path in (".", ".."):
        folder = Path(name_or_path).expanduser()
    else:
        folder = paths.bundled_workloads() / paths.safe_name(name_or_path, "workload")
    if not (folder / "workload.yaml").is_file():
        raise WorkloadError(
            f"there is no workload {name_or_path!r}",
            hint=f"bundled ones: {', '.join(list_workloads())}; or give a folder",
        )
    return folder


def kind_in(folder: Path) -> str:
    """The kind that a ``workload.yaml`` names; ``WorkloadError`` if there is none of that name."""
    file = folder / "workload.yaml"
    value = read_yaml(file)
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind not in KINDS:
        raise WorkloadError(f"{file}: kind: {kind!r} is none", hint=f"kinds: {', '.join(KINDS)}")
    return str(kind)


def load_workload(folder: Path) -> Workload:
    """``workload.yaml``, as its kind has it."""
    return read_section(KINDS[kind_in(folder)].workload, folder / "workload.yaml")


def kind_of(workload: Workload) -> Kind:
    return KINDS[workload.kind]


def load_tasks(folder: Path, workload: Workload) -> Sequence[Task]:
    """All tasks of a workload folder, by name. A folder that cannot be used is an error, never left out silently."""
    root = folder / "tasks"
    load = kind_of(workload).load_task
    tasks = [load(path) for path in sorted(root.iterdir()) if path.is_dir()] if root.is_dir() else []
    if not tasks:
        raise WorkloadError(f"{root} has no task folders")
    return tasks
