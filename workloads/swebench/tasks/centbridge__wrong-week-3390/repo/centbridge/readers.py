"""Reading statements and ledgers from CSV text."""

import csv
import io
from datetime import date

from .money import MoneyError, parse_money
from .records import Record

COLUMNS = ("date", "reference", "amount", "text")


class RowError(ValueError):
    """A row that cannot be used; ``row`` counts from 1 after the header."""

    def __init__(self, what, row, reason):
        self.row = row
        super().__init__("%s, row %d: %s" % (what, row, reason))


def _read(what, content):
    reader = csv.DictReader(io.StringIO(content.strip() + "\n"), skipinitialspace=True)
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise ValueError("%s lacks the columns: %s" % (what, ", ".join(missing)))
    records = []
    for number, row in enumerate(reader, 1):
        if None in row or None in row.values():
            raise RowError(what, number, "wrong number of fields")
        try:
            when = date.fromisoformat(row["date"].strip())
            amount = parse_money(row["amount"])
        except MoneyError as problem:
            raise RowError(what, number, str(problem)) from problem
        except ValueError as problem:
            raise RowError(what, number, "not a date: %r" % row["date"]) from problem
        records.append(Record(number, when, row["reference"], amount, row["text"].strip()))
    return records


def read_statement(content):
    """Records of a bank statement; money that comes in is positive."""
    return _read("statement", content)


def read_ledger(content):
    """Records of a ledger, with signs as on the statement."""
    return _read("ledger", content)
