"""Finds the line that matters in a server's log.

vLLM's processes each re-raise the failure of the one below, so the end of a log is a stack of consequences
("Engine core initialization failed. See root cause above."). The cause is the first exception line that is not one
of those.
"""

from __future__ import annotations

import re
from pathlib import Path

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_PREFIX = re.compile(
    r"^(?:\((?:\w|[-. ])+?(?: pid=\d+)?\)\s*)?"  # (EngineCore pid=123)
    r"(?:(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+)?"
    r"(?:\d{2}-\d{2} \d{2}:\d{2}:\d{2}(?:\.\d+)?\s+)?"
    r"(?:\[[\w./]+:\d+\]\s?)?"
)
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning)): \S")
_FIELD = re.compile(r"^[a-z_][\w.]*$")
_USAGE = re.compile(r"^[\w./-]+: error: ")
_CONSEQUENCE = re.compile(
    r"(?i)root cause|engine core initialization failed|enginecore (?:failed|encountered)|worker failed with error"
    r"|workerproc initialization failed|worker proc .* died|terminated$|Warning: "
)
_TAIL_BYTES = 512 * 1024
_MOST = 5
_LONGEST = 600


def last_error_lines(log: Path, start: int = 0) -> list[str]:
    """The exception lines of ``log`` from byte ``start`` on, the cause first; else its last lines.

    Time stamps, process names and colours are stripped. Empty if the log is empty or missing.
    """
    try:
        with log.open("rb") as handle:
            end = handle.seek(0, 2)
            handle.seek(max(min(start, end), end - _TAIL_BYTES))
            text = handle.read().decode(errors="replace")
    except OSError:
        return []
    lines = [_bare(line) for line in text.splitlines()]
    lines = [line for line in lines if line]
    found: list[str] = []
    for position, line in enumerate(lines):
        if _USAGE.match(line):
            said = line
        elif _EXCEPTION.match(line):
            said = _with_continuation(lines, position)
        else:
            continue
        if not _CONSEQUENCE.search(said) and said not in found:
            found.append(said)
    chosen = found[:_MOST] if found else lines[-_MOST:]
    return [line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …" for line in chosen]


def _bare(line: str) -> str:
    return _PREFIX.sub("", _ANSI.sub("", line)).rstrip()


def _with_continuation(lines: list[str], position: int) -> str:
    """An exception's message in one line; others break theirs over several indented ones.

    Pydantic names the field that it refuses on a line of its own that is not indented.
    """
    said = [lines[position]]
    names_fields = "validation error" in said[0]
    for line in lines[position + 1 : position + 4]:
        if not (line.startswith("  ") or (names_fields and _FIELD.match(line))) or line.lstrip().startswith(
            ("File ", "^", "~")
        ):
            break
        said.append(line.strip())
    return " ".join(said)
