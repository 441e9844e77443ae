"""Bundled tasks by name, for tests that need one."""

from __future__ import annotations

from thunderctl.workload.coding import CodingTask
from thunderctl.workload.load import find_workload, load_tasks, load_workload


def bundled_task(name: str) -> CodingTask:
    """A task of ``swebench``."""
    folder = find_workload("swebench")
    (found,) = [each for each in load_tasks(folder, load_workload(folder)) if each.instance_id == name]
    assert isinstance(found, CodingTask)
    return found
