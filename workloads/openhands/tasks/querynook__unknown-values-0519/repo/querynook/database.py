"""Tables by name."""

import csv
import io

from .errors import QueryError
from .parser import parse
from .plan import run


class Database:
    """Tables in memory, and queries over them."""

    def __init__(self):
        self._tables = {}

    def table(self, name, columns, rows):
        """Add a table; one of the same name is replaced."""
        for row in rows:
            if len(row) != len(columns):
                raise QueryError("a row of %s has %d values for %d columns" % (name, len(row), len(columns)))
        self._tables[name] = (list(columns), [list(row) for row in rows])

    def load(self, name, text):
        """Add a table from CSV with a line of headings. Empty fields are NULL."""
        lines = list(csv.reader(io.StringIO(text)))
        if not lines:
            raise QueryError("the table %s has no headings" % name)
        self.table(name, lines[0], [[constant(field) for field in line] for line in lines[1:] if line])

    def columns(self, table, alias):
        """Full names of a table's columns under an alias."""
        if table not in self._tables:
            known = ", ".join(sorted(self._tables)) or "none"
            raise QueryError("there is no table %s; tables: %s" % (table, known))
        return ["%s.%s" % (alias, column) for column in self._tables[table][0]]

    def rows(self, table, alias):
        """A table's rows as dictionaries by full names."""
        names = self.columns(table, alias)
        return [dict(zip(names, row)) for row in self._tables[table][1]]

    def query(self, text):
        """The rows of a query's result as tuples."""
        return run(parse(text), self)[1]

    def names(self, text):
        """The names of the columns of a query's result."""
        return run(parse(text), self)[0]


def constant(field):
    """What a CSV field means."""
    if field == "":
        return None
    for kind in (int, float):
        try:
            return kind(field)
        except ValueError:
            pass
    return field
