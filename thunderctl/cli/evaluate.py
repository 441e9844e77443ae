"""``evaluate``: have the patches of a stored run judged by the official evaluation, in the ``swebench`` package."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from thunderctl.cli import complete
from thunderctl.cli.show import AsJson, err, out, print_json, ticker
from thunderctl.errors import ExitCode
from thunderctl.report import run_page
from thunderctl.report.stats import summarise
from thunderctl.runs.evaluate import Evaluation, find_harness
from thunderctl.runs.evaluate import evaluate as evaluate_run
from thunderctl.runs.store import RunFolder, find_run

WORKERS = max(1, 3 * (os.cpu_count() or 1) // 4)
"""Instances at once, as swebench advises."""
TIMEOUT_S = 1800

Python = Annotated[
    Path | None,
    typer.Option("--python", metavar="PATH", help="A Python that has swebench; without it the one that runs this."),
]


def evaluate(
    run: Annotated[
        str | None, typer.Argument(help="Run id or folder; without it the latest run.", autocompletion=complete.runs)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Where the rows are now, if the run's own are not there any more.")
    ] = None,
    python: Python = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Instances at once.")] = WORKERS,
    timeout: Annotated[int, typer.Option("--timeout", min=1, help="Seconds for the tests of one.")] = TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Have a run's patches judged by swebench, and store what it says.

    Wants a Docker engine that has or can pull the images of the rows. What swebench decides takes the place of an
    earlier judgement. Exit code 1 if a patch could not be evaluated.

    Examples:

        thunderctl evaluate
        thunderctl evaluate 20261120-101500-swebench-1a2b --python ~/swebench/bin/python
    """
    found = evaluate_stored(find_run(run), dataset=dataset, python=python, workers=workers, timeout_s=timeout)
    if as_json:
        print_json(found.as_dict())
    else:
        out.print(f"{found.by}: {len(found.resolved)} resolved, {len(found.unresolved)} not", highlight=False)
    for name, reason in found.not_evaluated.items():
        err.print(f"not evaluated: {name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if found.not_evaluated:
        raise typer.Exit(ExitCode.FAILED)


def evaluate_stored(
    run: RunFolder,
    *,
    dataset: str | None = None,
    python: Path | None = None,
    workers: int = WORKERS,
    timeout_s: int = TIMEOUT_S,
) -> Evaluation:
    """Evaluate a stored run, and make its report anew."""
    harness = find_harness(python or Path(sys.executable))
    with ticker() as tell:
        found = evaluate_run(run, harness, dataset=dataset, workers=workers, timeout_s=timeout_s, progress=tell)
    summary = summarise(run)
    run.write("summary.json", summary)
    run_page.write_page(run, summary)
    return found
