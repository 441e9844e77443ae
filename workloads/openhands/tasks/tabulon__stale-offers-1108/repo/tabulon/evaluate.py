"""From a formula's tree to its value, given the values of other cells."""

from .errors import DIVISION, NAME, VALUE, CellError, Failed
from .functions import FUNCTIONS, number_of, text_of


def evaluate(tree, value_of):
    """The value of ``tree``; ``value_of(ref)`` tells other cells'. Errors come back as values."""
    try:
        return _single(tree, value_of)
    except Failed as failed:
        return failed.error


def _single(tree, value_of):
    kind = tree[0]
    if kind in ("number", "text"):
        return tree[1]
    if kind == "ref":
        value = value_of(tree[1])
        if isinstance(value, CellError):
            raise Failed(value)
        return value
    if kind == "block":
        raise Failed(VALUE)
    if kind == "unary":
        value = number_of(_single(tree[2], value_of))
        return -value if tree[1] == "-" else value
    if kind == "call":
        if tree[1] not in FUNCTIONS:
            raise Failed(NAME)
        return FUNCTIONS[tree[1]]([_many(argument, value_of) for argument in tree[2]])
    return _binary(tree[1], _single(tree[2], value_of), _single(tree[3], value_of))


def _many(tree, value_of):
    """An argument's values: all those of a block, else one. Errors stay among them."""
    if tree[0] == "block":
        return [value_of(ref) for ref in tree[1].cells()]
    return [_single(tree, value_of)]


def _binary(operator, left, right):
    if operator == "&":
        return text_of(left) + text_of(right)
    if operator in ("=", "<>"):
        return (_plain(left) == _plain(right)) == (operator == "=")
    if operator in ("<", "<=", ">", ">="):
        return _compare(operator, _plain(left), _plain(right))
    left, right = number_of(left), number_of(right)
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if operator == "^":
        return _power(left, right)
    if right == 0:
        raise Failed(DIVISION)
    return left / right


def _power(base, exponent):
    try:
        value = base ** exponent
    except (ZeroDivisionError, OverflowError):
        raise Failed(DIVISION) from None
    if isinstance(value, complex):
        raise Failed(VALUE)
    return value


def _plain(value):
    return 0.0 if value is None else value


def _compare(operator, left, right):
    if isinstance(left, str) != isinstance(right, str):
        raise Failed(VALUE)
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]
