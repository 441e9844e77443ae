"""Statement lines, ledger entries and the rules for bringing them together."""

from decimal import Decimal


class Record:
    """One statement line or one ledger entry; ``number`` counts from 1 in its file."""

    __slots__ = ("number", "date", "reference", "amount", "text")

    def __init__(self, number, date, reference, amount, text=""):
        self.number = number
        self.date = date
        self.reference = normal_reference(reference)
        self.amount = amount
        self.text = text

    def __repr__(self):
        return "Record(%d, %s, %s)" % (self.number, self.date, self.amount)


def normal_reference(reference):
    """References compare without regard to case, blanks and dashes."""
    return "".join(char for char in reference.upper() if char.isalnum())


class Rules:
    """How far a statement line and its ledger entries may be apart."""

    def __init__(self, tolerance=Decimal("0.05"), days_back=7, days_ahead=7, group_size=3):
        if tolerance < 0 or days_back < 0 or days_ahead < 0:
            raise ValueError("tolerance and days must not be negative")
        self.tolerance = tolerance
        self.days_back = days_back
        self.days_ahead = days_ahead
        self.group_size = group_size

    def allows_difference(self, difference):
        return abs(difference) <= self.tolerance

    def allows_lag(self, lag):
        """``lag`` is in days; it is positive if the entry came before the line."""
        return -self.days_ahead <= lag <= self.days_back
