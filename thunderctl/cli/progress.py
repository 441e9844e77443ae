"""How a long command tells what it does: the option ``--progress``, and what it comes to on this terminal.

Progress goes to standard error, whichever way; results go to standard output. A command that has the option declares a
parameter ``progress: Shown = ProgressMode.auto`` and needs no more: the choice holds for the command, and whoever shows
something asks :func:`mode_for`.
"""

from __future__ import annotations

import json
import time
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

SCHEMA = 1
"""Of the objects of ``--progress json``."""


class ProgressMode(StrEnum):
    """Ways to show progress."""

    auto = "auto"
    """``tty`` on a terminal that can, else ``plain``."""
    tty = "tty"
    """A view that fills the terminal, four times a second, and is gone at the end."""
    plain = "plain"
    """A line now and then."""
    json = "json"
    """An object a line; ``cli/live_lines.py`` documents the keys."""
    quiet = "quiet"
    """Nothing."""


_chosen = ProgressMode.auto


def _choose(mode: ProgressMode) -> ProgressMode:
    global _chosen  # what a command line says holds for the process that carries it out
    _chosen = mode
    return mode


Shown = Annotated[
    ProgressMode,
    typer.Option(
        "--progress",
        callback=_choose,
        help="How to show what goes on (on standard error): a view on a terminal and plain lines elsewhere (auto), or "
        "one of tty, plain, json (an object a line), quiet.",
    ),
]


def mode_for(console: Console) -> ProgressMode:
    """The chosen way; ``auto`` is decided by what ``console`` can do, and never returned."""
    if _chosen is not ProgressMode.auto:
        return _chosen
    able = console.is_terminal and not console.is_dumb_terminal and not console.options.ascii_only
    return ProgressMode.tty if able else ProgressMode.plain


def status_line(text: str) -> str:
    """The object of type ``status``: what goes on before or after the work itself."""
    return json.dumps({"type": "status", "schema": SCHEMA, "at": round(time.time(), 3), "text": text})
