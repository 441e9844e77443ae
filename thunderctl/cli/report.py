"""``report``: a stored run's figures again, computed from its folder."""

from __future__ import annotations

from typing import Annotated

import typer

from thunderctl.cli.show import AsJson, out, print_json
from thunderctl.report import tables
from thunderctl.report.stats import summarise
from thunderctl.runs.store import find_run


def report(
    run: Annotated[str | None, typer.Argument(help="Run id or folder; without it the latest run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the report of a stored run.

    Examples:

        thunderctl report
        thunderctl report 20261120-101500-swebench-1a2b --json
    """
    found = find_run(run)
    summary = summarise(found)
    if as_json:
        print_json({**summary, "folder": str(found.folder)})
        return
    out.print(tables.run_table(summary))
    out.print(f"\nstored in {found.folder}", soft_wrap=True, highlight=False)
