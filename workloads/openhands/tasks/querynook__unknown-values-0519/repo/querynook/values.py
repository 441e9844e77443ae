"""Values and truth. ``None`` is unknown, as a value and as a truth."""

import operator as _op

from .errors import QueryError

_COMPARE = {"=": _op.eq, "<>": _op.ne, "<": _op.lt, "<=": _op.le, ">": _op.gt, ">=": _op.ge}
_ARITHMETIC = {"+": _op.add, "-": _op.sub, "*": _op.mul, "/": _op.truediv}


def compare(operator, left, right):
    """``left operator right``."""
    try:
        return _COMPARE[operator](left, right)
    except TypeError:
        raise QueryError("%r and %r cannot be compared" % (left, right)) from None


def arithmetic(operator, left, right):
    """``left operator right``; unknown for a division by zero."""
    if operator == "/" and right == 0:
        return None
    try:
        return _ARITHMETIC[operator](left, right)
    except TypeError:
        raise QueryError("%r %s %r cannot be computed" % (left, operator, right)) from None


def truth_not(value):
    return not value


def truth_and(left, right):
    return bool(left and right)


def truth_or(left, right):
    return bool(left or right)


def sort_key(value):
    """Sorts values."""
    return value
