"""The value of an expression for a row, which maps ``alias.column`` to values."""

from .errors import QueryError
from .values import arithmetic, compare, truth_and, truth_not, truth_or


def evaluate(tree, row):
    """The value of ``tree``; aggregates are looked up in the row, where grouping put them."""
    kind = tree[0]
    if kind == "value":
        return tree[1]
    if kind == "column":
        return row[full_name(tree[1], row)]
    if kind == "compare":
        return compare(tree[1], evaluate(tree[2], row), evaluate(tree[3], row))
    if kind == "arithmetic":
        return arithmetic(tree[1], evaluate(tree[2], row), evaluate(tree[3], row))
    if kind == "and":
        return truth_and(evaluate(tree[1], row), evaluate(tree[2], row))
    if kind == "or":
        return truth_or(evaluate(tree[1], row), evaluate(tree[2], row))
    if kind == "not":
        return truth_not(evaluate(tree[1], row))
    if kind == "null":
        return evaluate(tree[1], row) is None
    if tree not in row:
        raise QueryError("%s cannot stand here" % tree[1])
    return row[tree]


def full_name(name, row):
    """``alias.column`` for a column's name as it stands in a query."""
    if name in row:
        return name
    found = [key for key in row if isinstance(key, str) and key.endswith("." + name)]
    if len(found) != 1:
        raise QueryError("the column %s is %s" % (name, "ambiguous" if found else "unknown"))
    return found[0]


def aggregates_of(tree):
    """Every aggregate within ``tree``."""
    if tree is None or tree[0] in ("value", "column"):
        return []
    if tree[0] == "aggregate":
        return [tree]
    return [found for part in tree[1:] if isinstance(part, tuple) for found in aggregates_of(part)]
