"""Money in whole cents; every rounding decision of the package lives here."""

import re
from dataclasses import dataclass

from .errors import MoneyError

_AMOUNT = re.compile(r"(-?)(\d+)(?:\.(\d{1,2}))?")


@dataclass(frozen=True, order=True)
class Money:
    """An amount of one (unnamed) currency."""

    cents: int = 0

    @classmethod
    def parse(cls, text):
        """Read '12', '12.5' or '-12.50'."""
        found = _AMOUNT.fullmatch(text.strip())
        if not found:
            raise MoneyError("not an amount: %r" % text)
        sign, units, fraction = found.groups()
        cents = int(units) * 100 + int((fraction or "0").ljust(2, "0"))
        return cls(-cents if sign else cents)

    def __str__(self):
        units, cents = divmod(abs(self.cents), 100)
        return "%s%d.%02d" % ("-" if self.cents < 0 else "", units, cents)

    def __bool__(self):
        return self.cents != 0

    def __add__(self, other):
        return Money(self.cents + other.cents)

    def __sub__(self, other):
        return Money(self.cents - other.cents)

    def __neg__(self):
        return Money(-self.cents)

    def share(self, part, whole):
        """The part/whole of this amount, half a cent rounding away from zero."""
        if whole <= 0 or not 0 <= part <= whole:
            raise MoneyError("no share of %s parts in %s" % (part, whole))
        cents = (2 * abs(self.cents) * part + whole) // (2 * whole)
        return Money(-cents if self.cents < 0 else cents)

    def allocate(self, weights):
        """Split the amount by weight into pieces that add up to it again.

        Every piece is first rounded down; the cents left over then go, one
        each, to the pieces that lost the largest fractions (the earlier
        piece first where two lost the same).
        """
        total = sum(weights)
        if total <= 0 or min(weights) < 0:
            raise MoneyError("cannot allocate by %r" % (weights,))
        exact = [self.cents * weight for weight in weights]
        pieces = [value // total for value in exact]
        by_loss = sorted(range(len(exact)), key=lambda i: (-(exact[i] % total), i))
        for index in by_loss[:self.cents - sum(pieces)]:
            pieces[index] += 1
        return [Money(piece) for piece in pieces]


def add_up(amounts):
    """The sum of any number of amounts, zero for none."""
    return sum(amounts, Money())
