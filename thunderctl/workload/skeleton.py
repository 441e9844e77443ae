"""Begins a workload of the user's own: a bundled one of its kind, with one task as the example to replace."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from thunderctl import paths
from thunderctl.errors import UsageError
from thunderctl.workload.kinds import KINDS
from thunderctl.workload.load import find_workload, kind_in, list_workloads

HEADER = """\
# A workload of your own, begun from the bundled {source!r}. Replace the prompts as you like, and the task in tasks/ by
# yours; `thunderctl workload validate {folder}` tells whether each can be solved and is not solved already.
"""


def new_workload(folder: Path, kind: str) -> str:
    """Make ``folder``; the name of the bundled workload that it was begun from.

    Raises:
        UsageError: there is no such kind, no bundled workload of it, or there is something at ``folder`` already.
    """
    name = paths.safe_name(folder.name, "the workload's name")
    if kind not in KINDS:
        raise UsageError(f"there is no kind {kind!r}", hint=f"kinds: {', '.join(KINDS)}")
    if folder.exists():
        raise UsageError(f"{folder} exists already")
    for source in list_workloads():
        found = find_workload(source)
        if kind_in(found) == kind:
            break
    else:
        raise UsageError(f"no bundled workload is of kind {kind!r}: there is nothing to begin from")
    example = min((task for task in (found / "tasks").iterdir() if task.is_dir()), key=_size)
    folder.mkdir(parents=True)
    for item in found.iterdir():  # what its tasks have in common, such as a corpus
        if item.is_dir() and item.name != "tasks":
            shutil.copytree(item, folder / item.name)
        elif item.is_file() and item.name not in ("workload.yaml", "README.md"):
            shutil.copy(item, folder / item.name)
    shutil.copytree(example, folder / "tasks" / example.name)
    text = (found / "workload.yaml").read_text(encoding="utf-8")
    body = re.sub(r"\A(?:#[^\n]*\n|\n)+", "", text)
    body = re.sub(r"(?m)^name:.*$", f"name: {name}", body, count=1)
    head = HEADER.format(source=source, folder=folder)
    (folder / "workload.yaml").write_text(head + body, encoding="utf-8")
    return source


def _size(folder: Path) -> tuple[int, str]:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()), folder.name
