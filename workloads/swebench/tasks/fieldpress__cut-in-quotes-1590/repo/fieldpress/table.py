"""Rows as a table of text, with columns padded to the same width."""

import re

_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
GAP = "  "


def render_table(rows, header=True, widest=24):
    """Return the table as one string without a trailing newline.

    Short rows are filled with empty cells.  Columns of numbers are set to the
    right, all others to the left.  A cell with line endings takes several
    lines, and no line of a cell is longer than ``widest`` characters.
    """
    rows = [[_lines(value, widest) for value in row] for row in rows]
    if not rows:
        return ""
    count = max(len(row) for row in rows)
    for row in rows:
        row.extend([""] for _ in range(count - len(row)))
    body = rows[1:] if header else rows
    widths = [max(len(line) for row in rows for line in row[i]) for i in range(count)]
    right = [bool(body) and all(_is_number(row[i]) for row in body) for i in range(count)]
    out = []
    for index, row in enumerate(rows):
        out.extend(_render_row(row, widths, right))
        if header and index == 0:
            out.append(GAP.join("-" * width for width in widths))
    return "\n".join(out)


def _render_row(row, widths, right):
    for number in range(max((len(cell) for cell in row), default=0)):
        parts = []
        for cell, width, numeric in zip(row, widths, right):
            line = cell[number] if number < len(cell) else ""
            parts.append(line.rjust(width) if numeric else line.ljust(width))
        yield GAP.join(parts).rstrip()


def _lines(value, widest):
    """The lines of one cell, cut to size and free of control characters."""
    text = "(null)" if value is None else str(value)
    lines = re.split("\r\n|\r|\n", text)
    return [_cut("".join(c if c.isprintable() else "?" for c in line), widest) for line in lines]


def _cut(line, widest):
    return line if len(line) <= widest else line[:widest - 3] + "..."


def _is_number(cell):
    return len(cell) == 1 and (cell[0] == "" or _NUMBER.fullmatch(cell[0]) is not None)
