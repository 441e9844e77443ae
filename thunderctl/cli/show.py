"""How commands speak: results on stdout, everything else on stderr, errors in one shape."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from thunderctl.cli.progress import ProgressMode, mode_for, status_line
from thunderctl.errors import (
    DaemonError,
    EnvironmentFailure,
    PreflightError,
    ProfileError,
    ThunderError,
    TooManyErrors,
    UsageError,
)

out = Console()
err = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--config", "-c", metavar="KEY=VALUE", help="Override a key of the profile; may be repeated."),
]


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def print_error(error: ThunderError, command: str = "thunderctl") -> None:
    """What was wrong, the details if there are any, what to do, and last the next thing to type.

    ``command``: the words of the command that failed, without its options.
    """
    err.print(f"[bold red]error:[/] {escape(error.message)}", soft_wrap=True)
    for line in error.details:
        err.print(f"  [dim]{escape(line)}[/]", soft_wrap=True)
    if error.hint:
        err.print(f"[bold]hint:[/] {escape(error.hint)}", soft_wrap=True)
    if "thunderctl " not in (error.hint or ""):
        err.print(f"[bold]next:[/] {escape(_next_thing(error, command))}", soft_wrap=True)


_NEXT: tuple[tuple[type[ThunderError], str], ...] = (
    (ProfileError, "thunderctl profile list"),
    (UsageError, "{command} --help"),
    (PreflightError, "thunderctl doctor"),
    (EnvironmentFailure, "thunderctl doctor"),
    (TooManyErrors, "thunderctl logs"),
    (DaemonError, "thunderctl logs"),
    (ThunderError, "thunderctl doctor"),
)
"""What helps after an error that does not say it itself; the first type that fits counts."""


def _next_thing(error: ThunderError, command: str) -> str:
    return next(line for kind, line in _NEXT if isinstance(error, kind)).format(command=command)


class Ticker:
    """Progress of one long thing, said in the way that was chosen; what did not change is not said again."""

    def __init__(self, say: Callable[[str, float], None]) -> None:
        self._say = say
        self._began = time.monotonic()
        self._last = ""

    def __call__(self, text: str) -> None:
        if text == self._last:
            return
        self._last = text
        self._say(text, time.monotonic() - self._began)


@contextmanager
def ticker() -> Iterator[Ticker]:
    """A place for progress while the block runs: a live line on a terminal, a plain line a change elsewhere."""
    mode = mode_for(err)
    if mode is ProgressMode.tty:
        with err.status("…") as status:
            yield Ticker(lambda text, s: status.update(f"{escape(text)} [dim]({s:.0f} s)[/]"))
    elif mode is ProgressMode.plain:
        yield Ticker(lambda text, s: say(f"{s:6.1f} s  {text}"))
    elif mode is ProgressMode.json:
        yield Ticker(lambda text, _: say(status_line(text)))
    else:
        yield Ticker(lambda text, _: None)


def say(line: str) -> None:
    """A line on standard error, as it is."""
    err.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
