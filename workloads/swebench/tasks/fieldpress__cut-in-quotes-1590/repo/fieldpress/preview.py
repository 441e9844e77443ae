"""A look at the first rows of a file."""

from itertools import islice

from .reader import CHUNK, read_path
from .table import render_table


def preview(path, dialect=None, start=0, limit=10, header=True, chunk=CHUNK):
    """A table of ``limit`` rows of a file, from row ``start`` on.

    With ``header`` the first row of the file is always shown, on top, and
    counts neither as a row to skip nor against the limit.  A last line says
    how many rows were left out behind those shown, if any.
    """
    rows = read_path(path, dialect, chunk)
    shown = list(islice(rows, 1)) if header else []
    shown.extend(islice(rows, start, start + limit))
    rest = sum(1 for _ in rows)
    table = render_table(shown, header=header)
    return table + f"\n... {rest} more" if rest else table
