"""From a tree back to source in standard form."""

from decimal import Decimal

from . import nodes
from .parser import parse
from .units import spell


def format_source(text):
    """Rewrite one line with standard spacing and no needless parentheses."""
    return write(parse(text))


def write(tree):
    """The source of a tree, such that parsing it gives the tree again."""
    if isinstance(tree, nodes.Assign):
        return f"{tree.name} = {write(tree.value)}"
    if isinstance(tree, nodes.Literal):
        number = _number(tree.value)
        return f"{number} {spell(tree.units)}" if tree.units else number
    if isinstance(tree, nodes.Name):
        return tree.name
    if isinstance(tree, nodes.Call):
        return f"{tree.name}({', '.join(write(a) for a in tree.arguments)})"
    if isinstance(tree, nodes.Convert):
        return f"{_wrap(tree.operand, nodes.CONVERT)} to {spell(tree.units)}"
    if isinstance(tree, nodes.Negate):
        if isinstance(tree.operand, nodes.Literal):
            return f"-({write(tree.operand)})"  # else it is the sign of the number
        return "-" + _wrap(tree.operand, nodes.SIGN)
    return _write_binary(tree)


def _write_binary(tree):
    level = nodes.BINARY[tree.op]
    if tree.op == "^":
        # A sign in the exponent needs no parentheses, and "^" groups to the right.
        return f"{_wrap(tree.left, level + 1)}^{_wrap(tree.right, nodes.SIGN)}"
    return f"{_wrap(tree.left, level)} {tree.op} {_wrap(tree.right, level + 1)}"


def _wrap(tree, needed):
    return f"({write(tree)})" if _level(tree) < needed else write(tree)


def _level(tree):
    """How tightly the text of ``tree`` holds together."""
    if isinstance(tree, nodes.Binary):
        return nodes.BINARY[tree.op]
    if isinstance(tree, nodes.Convert):
        return nodes.CONVERT
    if isinstance(tree, nodes.Negate):
        return nodes.SIGN
    if isinstance(tree, nodes.Literal) and tree.units:
        return nodes.POWER  # "3 m^2" is not the square of "3 m"
    return nodes.ATOM


def _number(value):
    """A literal's value; a literal always has a finite decimal form."""
    return format((Decimal(value.numerator) / Decimal(value.denominator)).normalize(), "f")
