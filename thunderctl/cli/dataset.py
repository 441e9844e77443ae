"""``--dataset``: the rows that a user has in place of the bundled tasks.

Rows that cannot be used are told before anything starts.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from thunderctl.cli.show import err
from thunderctl.errors import WorkloadError
from thunderctl.workload.kinds import Kind
from thunderctl.workload.rows import Refused, Rows

SHOWN = 20
"""Refused rows named on the screen; the manifest has all."""

Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="FILE|NAME[:SPLIT]",
        help="Official rows instead of the bundled tasks: JSON lines, JSON, CSV, Parquet, or OWNER/NAME at Hugging "
        "Face. They run live, unless they carry recorded answers.",
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="With --dataset: start nothing if any of its rows cannot be used.")
]


@functools.cache  # compare makes a plan for each arm: what is refused is told once
def load_dataset(kind: Kind, source: str, *, live: bool = True, strict: bool = False) -> Rows[Any]:
    """The rows as tasks; those left out are told on the screen, or all in a ``WorkloadError`` if that is ``strict``.

    Unless they are to run ``live``, rows that carry recorded answers are replayed, and others beside them left out.
    """
    found: Rows[Any] = kind.load_dataset(source)
    if not live and any(task.trajectory for task in found):
        for task in [task for task in found if not task.trajectory]:
            found.remove(task)
            found.refused.append(Refused(called(source), task.instance_id, "no recorded answers, and others have some"))
    if not found.refused:
        return found
    rows = len(found) + len(found.refused)
    said = f"{called(source)}: {len(found.refused)} of {rows} rows cannot be used"
    reasons = [str(refused) for refused in found.refused[:SHOWN]]
    if len(found.refused) > SHOWN:
        reasons.append(f"and {len(found.refused) - SHOWN} more")
    if strict:
        raise WorkloadError(said, details=reasons, hint="without --strict the others are used")
    err.print(f"[yellow]{said}; the others are used[/]", highlight=False, soft_wrap=True)
    for reason in reasons:
        err.print(f"  {reason}", markup=False, highlight=False, soft_wrap=True)
    return found


def called(source: str) -> str:
    """A file or folder by its name alone."""
    return Path(source).name if Path(source).expanduser().exists() else source


def absolute(source: str) -> str:
    """As it is found from wherever it is read again."""
    path = Path(source).expanduser()
    return str(path.absolute()) if path.exists() else source
