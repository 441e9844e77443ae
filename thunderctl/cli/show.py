"""How commands speak: results on stdout, everything else on stderr, errors in one shape."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from thunderctl.errors import ThunderError

out = Console()
err = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--config", "-c", metavar="KEY=VALUE", help="Override a key of the profile; may be repeated."),
]


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def print_error(error: ThunderError) -> None:
    """What was wrong, the details if there are any, and what to do."""
    err.print(f"[bold red]error:[/] {escape(error.message)}", soft_wrap=True)
    for line in error.details:
        err.print(f"  [dim]{escape(line)}[/]", soft_wrap=True)
    if error.hint:
        err.print(f"[bold]hint:[/] {escape(error.hint)}", soft_wrap=True)


class Ticker:
    """Progress of one long thing: a live line on a terminal, a plain line a change elsewhere."""

    def __init__(self, status: Status | None) -> None:
        self._status = status
        self._began = time.monotonic()
        self._last = ""

    def __call__(self, text: str) -> None:
        if text == self._last:
            return
        self._last = text
        elapsed = time.monotonic() - self._began
        if self._status is not None:
            self._status.update(f"{escape(text)} [dim]({elapsed:.0f} s)[/]")
        else:
            err.print(f"{elapsed:6.1f} s  {escape(text)}", highlight=False, soft_wrap=True)


@contextmanager
def ticker() -> Iterator[Ticker]:
    """A place for progress while the block runs."""
    if err.is_terminal:
        with err.status("…") as status:
            yield Ticker(status)
    else:
        yield Ticker(None)
