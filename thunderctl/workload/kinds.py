"""Which kinds of workloads there are: one row each. Who works on them stands in ``agents/kinds.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from thunderctl.workload import coding
from thunderctl.workload.base import Task, Workload


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind's files are read, and how its results are called."""

    workload: type[Workload]
    """Model of ``workload.yaml``."""
    load_task: Callable[[Path], Task]
    """From a task's folder."""
    load_dataset: Callable[[Path], Sequence[Task]]
    """From the official rows that ``--dataset`` names."""
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
}
