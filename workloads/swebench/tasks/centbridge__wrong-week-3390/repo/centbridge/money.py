"""Amounts of money as ``Decimal`` with exactly two places."""

import re
from decimal import Decimal

CENT = Decimal("0.01")
_PLAIN = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d{1,2})?|\d+(?:\.\d{1,2})?")


class MoneyError(ValueError):
    """The text is not an amount of money."""


def parse_money(text):
    """Read ``1,234.5``, ``-20``, ``20.00-`` or ``(20.00)``; the last three are negative."""
    body = text.strip()
    negative = False
    if body.startswith("(") and body.endswith(")"):
        negative, body = True, body[1:-1].strip()
    elif body.endswith("-"):
        negative, body = True, body[:-1].rstrip()
    elif body[:1] in ("-", "+"):
        negative, body = body[0] == "-", body[1:].lstrip()
    if not _PLAIN.fullmatch(body):
        raise MoneyError("not an amount of money: %r" % text)
    amount = Decimal(body.replace(",", "")).quantize(CENT)
    return -amount if negative else amount


def format_money(amount, signed=False):
    """``-1,234.50``; with ``signed`` also ``+3.00`` for amounts above zero."""
    text = "{:,.2f}".format(amount)
    if signed and amount > 0:
        return "+" + text
    return text
