"""Short notation for records in tests."""

from datetime import date
from decimal import Decimal

from centbridge import Record


def records(*rows):
    """Rows are ``(day of March 2024, amount)`` or ``(day, amount, reference)``."""
    return [Record(number, date(2024, 3, row[0]), row[2] if len(row) > 2 else "",
                   Decimal(row[1]))
            for number, row in enumerate(rows, 1)]
