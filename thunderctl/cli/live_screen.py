"""The terminal while a view fills it: its alternate screen, given back whatever happens.

A frame is painted over the last one, line by line at absolute places, in one write: nothing scrolls, nothing flickers,
and a terminal that changed its size shows the right thing a frame later. What the process prints meanwhile is kept, and
comes out when the terminal is back; so are suspension (Ctrl-Z) and deadly signals seen to that nobody else sees to.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J\x1b[H"
LEAVE = "\x1b[?1049l\x1b[?25h"
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
"""A terminal that knows these shows a frame at once; others ignore them."""
KEPT_CHARACTERS = 1_000_000
_DEADLY = (signal.SIGTERM, signal.SIGHUP)

Drawer = Callable[[int, int], Sequence[Text]]
"""Lines for a width and a height."""


class _Kept(io.TextIOBase):
    """Stands for a stream of the process until the terminal is back."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._texts: list[str] = []
        self._room = KEPT_CHARACTERS

    def write(self, text: str) -> int:
        kept = text[: self._room]
        self._room -= len(kept)
        self._texts.append(kept)
        return len(text)

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding

    @property
    def last_line(self) -> str | None:
        lines = "".join(self._texts[-8:]).rstrip().splitlines()
        return Text.from_ansi(lines[-1]).plain if lines else None

    def hand_over(self) -> None:
        self.stream.write("".join(self._texts))
        self.stream.flush()


_open: Screen | None = None


def give_terminal_back() -> None:
    """Leave the screen that is open, if one is: for whoever ends the process without unwinding it."""
    if _open is not None:
        _open.leave()


class Screen:
    """Standard error as a screen, while the block runs."""

    def __init__(self) -> None:
        self._stream: TextIO = sys.stderr
        self._console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24, legacy_windows=False)
        self._kept: list[tuple[str, _Kept]] = []
        self._handlers: dict[int, Any] = {}
        self._inside = False

    def __enter__(self) -> Screen:
        global _open
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            stream.flush()
            if name == "stderr" or stream.isatty():
                kept = _Kept(stream)
                self._kept.append((name, kept))
                setattr(sys, name, kept)
        if threading.current_thread() is threading.main_thread():
            self._see_to_signals()
        _open = self
        self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def draw(self, drawer: Drawer) -> None:
        """Paint a frame for the size that the terminal has now."""
        if not self._inside:
            return
        width, height = self.size()
        self._console.size = (width, height)
        lines = list(drawer(width, height))[:height]
        painted = [BEGIN]
        for number in range(height):
            painted.append(f"\x1b[{number + 1};1H")
            if number < len(lines):
                with self._console.capture() as caught:
                    self._console.print(lines[number], end="", no_wrap=True, overflow="ellipsis", crop=True)
                painted.append(caught.get())
            painted.append("\x1b[0m\x1b[K" if number >= len(lines) or lines[number].cell_len < width else "")
        painted.append(END)
        self._write("".join(painted))

    @property
    def said(self) -> str | None:
        """The last line that the process printed while the screen was open: whoever draws may show it."""
        return next((line for _, kept in reversed(self._kept) if (line := kept.last_line)), None)

    def size(self) -> tuple[int, int]:
        """Columns and rows of the terminal; what is not one counts 80 by 24, or as ``COLUMNS`` and ``LINES`` say."""
        try:
            found = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            found = os.terminal_size((0, 0))
        width = found.columns or int(os.environ.get("COLUMNS", "").strip() or 80)
        return max(1, width), max(1, found.lines or int(os.environ.get("LINES", "").strip() or 24))

    def leave(self) -> None:
        """Give the terminal back, with what was printed meanwhile. Leaving twice is fine."""
        global _open
        self._step_out()
        if _open is self:
            _open = None
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == handler:  # nobody else has taken it over since
                signal.signal(number, signal.SIG_DFL)
        self._handlers = {}
        for name, kept in self._kept:
            if getattr(sys, name) is kept:
                setattr(sys, name, kept.stream)
            kept.hand_over()
        self._kept = []

    # ------------------------------------------------------------------ in and out

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _enter(self) -> None:
        self._write(ENTER)
        self._inside = True

    def _step_out(self) -> None:
        if self._inside:
            self._inside = False
            self._write(LEAVE)

    def _see_to_signals(self) -> None:
        """Only where nothing else was arranged: a handler of the command's own unwinds, and so leads to ``leave``."""
        for number, handler in ((signal.SIGTSTP, self._suspend), *((n, self._die) for n in _DEADLY)):
            if signal.getsignal(number) is signal.SIG_DFL:
                self._handlers[number] = handler
                signal.signal(number, handler)

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        self._step_out()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # here the process stands still until it is continued
        signal.signal(number, self._suspend)
        self._enter()

    def _die(self, number: int, frame: FrameType | None) -> None:
        self.leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
