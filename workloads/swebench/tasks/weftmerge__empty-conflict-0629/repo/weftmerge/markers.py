"""Conflict markers: writing and reading them.

A marker is a run of seven or more of one character at the start of a line.  If
the text itself contains such lines, longer markers are written, so that the
result can always be read back.
"""

import re

from . import lines
from .chunks import Conflict, Stable, coalesce

_MARKER = re.compile(r"(<{7,}|\|{7,}|={7,}|>{7,})(?: .*)?\r?\n?\Z")


class MarkerError(ValueError):
    """Markers are missing, doubled or out of order."""


def _run(line):
    """Return the marker characters at the start of *line*, or ""."""
    found = _MARKER.match(line)
    return found[1] if found else ""


def _all_lines(chunks):
    for chunk in chunks:
        if isinstance(chunk, Stable):
            yield from chunk.lines
        else:
            yield from chunk.ours
            yield from chunk.base or ()
            yield from chunk.theirs


def marker_size(chunks):
    """Return a marker length that no line of *chunks* uses."""
    return max([6] + [len(_run(line)) for line in _all_lines(chunks)]) + 1


def render(chunks, labels=("ours", "theirs")):
    """Return the text of *chunks* with markers around the conflicts."""
    newline = lines.ending(_all_lines(chunks))
    size = marker_size(chunks)
    out = []

    def marker(character, label=""):
        out.append(character * size + (" " + label if label else "") + newline)

    for chunk in chunks:
        if isinstance(chunk, Stable):
            out += chunk.lines
            continue
        out = lines.closed(out, newline)
        marker("<", labels[0])
        out += lines.closed(chunk.ours, newline)
        if chunk.base is not None:
            marker("|", "base")
            out += lines.closed(chunk.base, newline)
        marker("=")
        out += lines.closed(chunk.theirs, newline)
        marker(">", labels[1])
    return "".join(out)


def parse(text):
    """Read a text with markers; the inverse of :func:`render`.

    The first ``<<<<<<<`` decides how long the markers are.
    """
    chunks = []
    size = None
    part, parts = None, {}
    for number, line in enumerate(lines.split(text), 1):
        run = _run(line)
        if run and size is None and run[0] == "<":
            size = len(run)
        if not run or len(run) != size:
            if part is None:
                chunks.append(Stable([line]))
            else:
                parts[part].append(line)
            continue
        allowed = {None: "<", "<": "|=", "|": "=", "=": ">"}[part]
        if run[0] not in allowed:
            raise MarkerError("line %d: unexpected %s" % (number, run))
        part = run[0]
        if part == ">":
            chunks.append(Conflict(parts["<"], parts["="], parts.get("|")))
            part, parts = None, {}
        else:
            parts[part] = []
    if part is not None:
        raise MarkerError("the last conflict is not closed")
    return coalesce(chunks)
