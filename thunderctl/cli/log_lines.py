"""Lines of a node's log files: the last ones, across rotated files, and new ones as they arrive. Prints nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

LEVELS = ("debug", "info", "warning", "error", "critical")
_LEVEL = re.compile(r'"level": "([a-z]+)"|\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b')


class AtLeast:
    """Keeps lines of a level or above. Lines without one, such as those of a traceback, go with the line before."""

    def __init__(self, level: str | None) -> None:
        self._least = 0 if level is None else LEVELS.index(level)
        self._last = self._least

    def __call__(self, line: str) -> bool:
        found = _LEVEL.search(line)
        if found is not None:
            said = (found[1] or found[2]).lower()
            self._last = LEVELS.index(said) if said in LEVELS else self._last
        return self._last >= self._least


class LogFile:
    """One log and the files that it was rotated to: ``daemon.log``, ``daemon.log.1``, …"""

    def __init__(self, file: Path, level: str | None = None) -> None:
        self.name = file.stem
        self._file = file
        self._keep = AtLeast(level)
        self._at = 0

    def last(self, count: int) -> list[str]:
        """The last ``count`` lines that are kept, from older files too if the present one has not so many."""
        found: list[str] = []
        for number in range(100):
            file = self._file.with_name(f"{self._file.name}.{number}") if number else self._file
            try:
                text = file.read_bytes()
            except FileNotFoundError:
                break
            if number == 0:
                self._at = text.rfind(b"\n") + 1  # half a line is left for later
                text = text[: self._at]
            lines = [line for line in text.decode(errors="replace").splitlines() if self._keep(line)]
            found = lines + found
            if len(found) >= count:
                break
        return found[-count:] if count else []

    def fresh(self) -> Iterator[str]:
        """Whole lines that were written since the last look; from the beginning if the file was rotated meanwhile."""
        try:
            if self._file.stat().st_size < self._at:
                self._at = 0
            with self._file.open("rb") as source:
                source.seek(self._at)
                text = source.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._at += len(whole)
        yield from (line for line in whole.decode(errors="replace").splitlines() if self._keep(line))
