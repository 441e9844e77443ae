"""Which kinds of workloads there are: one row each. Who works on them stands in ``agents/kinds.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thunderctl.workload import coding, coding_tools, routing, routing_rows, science
from thunderctl.workload.base import Task, Workload
from thunderctl.workload.rows import Rows


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind's files are read, and how its results are called."""

    workload: type[Workload]
    """Model of ``workload.yaml``."""
    load_task: Callable[[Path], Task]
    """From a task's folder."""
    load_dataset: Callable[[str], Rows[Any]]
    """From the official rows that ``--dataset`` names: a file, a folder, or a name at Hugging Face."""
    dataset: str
    """What these rows are called."""
    judged: str
    """What a resolved task means, in the plural: "patches that pass their tests"."""
    submits: str
    """What an agent hands in."""
    patches: bool = False
    """Submissions are patches, so ``preds.json`` can be written."""


KINDS: dict[str, Kind] = {
    "coding": Kind(
        coding.CodingWorkload,
        coding.load_task,
        coding.load_dataset,
        "SWE-bench rows",
        judged="patches that pass their tests",
        submits="patch",
        patches=True,
    ),
    "coding-tools": Kind(
        coding_tools.CodingToolsWorkload,
        coding.load_task,
        coding.load_dataset,
        "SWE-bench rows",
        judged="patches that pass their tests",
        submits="patch",
        patches=True,
    ),
    "routing": Kind(
        routing.RoutingWorkload,
        routing.load_task,
        routing_rows.load_dataset,
        "HLE rows",
        judged="answers that are right",
        submits="answer",
    ),
    "science": Kind(
        science.ScienceWorkload,
        science.load_task,
        science.load_dataset,
        "ScienceAgentBench rows",
        judged="programs that solve their task",
        submits="program",
    ),
}
