"""A run's report as Markdown and CSV. The page (``run_page.py``) and the summary itself, as JSON, are the other forms.

All of them show the same figures: ``flat`` names each by its path in the summary, and ``shown`` writes it. JSON and CSV
hold every digit; the page and Markdown six of them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from thunderctl.report import tables

Value = str | int | float | bool | None


def flat(summary: dict[str, Any], above: str = "") -> Iterator[tuple[str, Value]]:
    """Every figure with its path, keys joined by dots; of lists only how long they are."""
    for key, value in summary.items():
        path = f"{above}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{path}.")
        elif isinstance(value, list):
            yield f"{path}.count", len(value)
        else:
            yield path, value


def shown(value: Value) -> str:
    """As a person reads it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def as_csv(summary: dict[str, Any]) -> str:
    """A line a figure: its path and its value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("figure", "value"))
    for path, value in flat(summary):
        writer.writerow((path, "" if value is None else json.dumps(value) if isinstance(value, bool) else value))
    return text.getvalue()


def as_markdown(summary: dict[str, Any]) -> str:
    """Sentence, notes, the rows that the terminal shows, then every figure."""
    sentence, big = tables.headline(summary)
    plain, warnings = tables.notes(summary)
    lines = [f"# {_cell(sentence)}", "", _cell(tables.title(summary)), ""]
    lines += [f"**{_cell(line)}**\n" for line in warnings] + [f"{_cell(line)}\n" for line in plain]
    lines += _table(("", ""), [(value, what) for value, what in big])
    lines += _table(("", ""), [row for group in tables.rows(summary) for row in group])
    lines += ["## Every figure", "", *_table(("figure", "value"), [(path, shown(v)) for path, v in flat(summary)])]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    """Text that no table and no renderer takes for anything else."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> list[str]:
    return [
        f"| {head[0]} | {head[1]} |",
        "| --- | --- |",
        *(f"| {_cell(label)} | {_cell(text)} |" for label, text in rows),
        "",
    ]
