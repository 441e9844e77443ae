"""``report``: a stored run's figures again, computed from its folder, in the form that is asked for."""

from __future__ import annotations

import sys
import webbrowser
from enum import StrEnum
from typing import Annotated

import typer

from thunderctl.cli import complete
from thunderctl.cli.show import AsJson, err, out, print_json
from thunderctl.errors import UsageError
from thunderctl.report import forms, run_page, tables
from thunderctl.report.stats import summarise
from thunderctl.runs.store import find_run


class Form(StrEnum):
    """What a report can be written as."""

    html = "html"
    md = "md"
    json = "json"
    csv = "csv"


def report(
    run: Annotated[
        str | None, typer.Argument(help="Run id or folder; without it the latest run.", autocompletion=complete.runs)
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option("--format", "-f", help="html writes report.html into the run's folder; the others are printed."),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Write report.html and open it in a browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the report of a stored run.

    Examples:

        thunderctl report
        thunderctl report 20261120-101500-swebench-1a2b --json
        thunderctl report --format md > report.md
        thunderctl report --open
    """
    if open_page and form not in (None, Form.html):
        raise UsageError(f"--open shows a page, and --format {form} is none", hint="leave one of them out")
    if as_json and (open_page or form not in (None, Form.json)):
        raise UsageError("--json is --format json: say nothing else beside it")
    found = find_run(run)
    summary = summarise(found)
    if as_json or form is Form.json:
        print_json({**summary, "folder": str(found.folder)})
    elif form in (Form.md, Form.csv):
        sys.stdout.write((forms.as_markdown if form is Form.md else forms.as_csv)(summary))
    elif open_page or form is Form.html:
        run_page.write_page(found, summary)
        page = found.folder / "report.html"
        out.print(str(page), soft_wrap=True, highlight=False, markup=False)
        if open_page and not webbrowser.open(page.as_uri()):
            err.print("no browser could be opened: open the file above yourself")
    else:
        out.print(tables.run_table(summary))
        out.print(f"\nstored in {found.folder}", soft_wrap=True, highlight=False, markup=False)
