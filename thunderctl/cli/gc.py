"""``thunderctl gc``: show what would be removed, then remove it."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections import Counter
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from thunderctl.environments.collector import GcPlan, GcResult, carry_out, plan
from thunderctl.errors import ExitCode, UsageError
from thunderctl.report.tables import size

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and remove nothing.")] = False,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Only what is older: 90s, 15m, 2h, 1d.")
    ] = "0s",
    run: Annotated[str | None, typer.Option("--run", help="Only what belongs to this run.")] = None,
    images: Annotated[
        bool,
        typer.Option("--images", help="Also images that this home brought and nobody needs; AGE is since their use."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print plan and result as JSON.")] = False,
) -> None:
    """Remove what dead nodes left behind: containers, volumes, networks, processes, folders. Nothing in use is touched.

    Ours is what carries this home's label, is in its ledgers, or was registered by an agent. The engine's build cache
    is left alone: it may be anybody's.

    Examples:

        thunderctl gc --dry-run
        thunderctl gc --older-than 2h --yes
        thunderctl gc --images --older-than 7d
    """
    console = Console()
    todo = plan(older_than_s=seconds(older_than), run=run, images=images)
    result: GcResult | None = None
    if not as_json:
        _show_plan(console, todo)
    if todo.items and not dry_run:
        if not yes and not as_json and sys.stdin.isatty() and not typer.confirm("Remove them?", default=False):
            raise typer.Exit(ExitCode.OK)
        result = carry_out(todo)
    if as_json:
        console.print_json(json.dumps(_as_data(todo, result)))
    elif result is not None:
        _show_result(console, result)
    if result is not None and result.failed:
        raise typer.Exit(ExitCode.FAILED)


def seconds(text: str) -> float:
    """``90s``, ``15m``, ``2h``, ``1d`` or a bare number of seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None:
        raise UsageError(f"--older-than {text!r} is not an age", hint="write 90s, 15m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def age(amount_s: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if amount_s >= length:
            return f"{amount_s / length:.0f}{unit}"
    return f"{max(0.0, amount_s):.0f}s"


def _show_plan(console: Console, todo: GcPlan) -> None:
    for note in todo.notes:
        console.print(f"[dim]{note}[/dim]", markup=True, highlight=False)
    if not todo.items:
        console.print("nothing to collect")
        return
    table = Table("what", "name", "why", "age", "bytes", "run", "program")
    for item in todo.items:
        words = (item.kind, item.name, item.why, age(item.age_s), size(item.bytes), item.run or "", item.program or "")
        table.add_row(*map(escape, words))
    console.print(table)
    console.print(f"{len(todo.items)} to collect, {size(todo.bytes)}; {len(todo.kept)} stay", highlight=False)


def _show_result(console: Console, result: GcResult) -> None:
    counts = Counter(item.kind for item in result.removed)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    console.print(f"reclaimed {len(result.removed)}, {size(result.bytes)}: {kinds or 'nothing'}", highlight=False)
    for kept in result.came_into_use:
        console.print(f"left alone: {kept.item.kind} {kept.item.name}: {kept.reason}", markup=False, highlight=False)
    for kept in result.failed:
        console.print(f"failed: {kept.item.kind} {kept.item.name}: {kept.reason}", markup=False, highlight=False)


def _as_data(todo: GcPlan, result: GcResult | None) -> dict[str, object]:
    said: dict[str, object] = {
        "items": [dataclasses.asdict(item) for item in todo.items],
        "kept": [dataclasses.asdict(kept) for kept in todo.kept],
        "notes": todo.notes,
        "bytes": todo.bytes,
    }
    if result is not None:
        said["result"] = {**dataclasses.asdict(result), "bytes": result.bytes}
    return said
