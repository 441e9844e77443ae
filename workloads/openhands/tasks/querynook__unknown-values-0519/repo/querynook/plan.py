"""Carries a query out: rows are joined, chosen, grouped, sorted, cut, and shown, in this order."""

from .aggregates import aggregate
from .errors import QueryError
from .evaluate import aggregates_of, evaluate
from .values import sort_key


def run(query, database):
    """The names of the result's columns, and its rows as tuples."""
    rows = database.rows(query.table, query.alias)
    conditions = [] if query.where is None else [query.where]
    for join in query.joins:
        first, *others = _parts(join.condition)
        rows = _joined(rows, join._replace(condition=first), database)
        conditions += others
    for condition in conditions:
        rows = [row for row in rows if evaluate(condition, row)]
    trees = [column.tree for column in query.columns] + [tree for tree, _ in query.order]
    if query.groups or any(aggregates_of(tree) for tree in trees):
        rows = _grouped(query, rows)
    for tree, descending in reversed(query.order):
        tree = _meant(tree, query)
        rows = sorted(rows, key=lambda row: sort_key(evaluate(tree, row)), reverse=descending)
    if query.limit is not None:
        rows = rows[:query.limit]
    return _shown(query, rows, database)


def _joined(rows, join, database):
    """Every row with every partner for which the condition holds; with an outer join at least once."""
    right = database.rows(join.table, join.alias)
    nothing = dict.fromkeys(database.columns(join.table, join.alias))
    found = []
    for row in rows:
        pairs = [{**row, **other} for other in right]
        partners = [pair for pair in pairs if evaluate(join.condition, pair)]
        if not partners and join.outer:
            partners = [{**row, **nothing}]
        found += partners
    return found


def _parts(condition):
    """The conditions that are joined by AND."""
    if condition[0] == "and":
        return _parts(condition[1]) + _parts(condition[2])
    return [condition]


def _meant(tree, query):
    """The expression that a name in ORDER BY stands for, if SELECT gives it that name."""
    if tree[0] == "column":
        for column in query.columns:
            if column.name == tree[1] and column.tree is not None:
                return column.tree
    return tree


def _group_key(value):
    return value if value is not None else object()


def _grouped(query, rows):
    """One row for each group: its first row, with the aggregates added under their trees."""
    groups = {} if query.groups else {(): []}
    for row in rows:
        key = tuple(_group_key(evaluate(tree, row)) for tree in query.groups)
        groups.setdefault(key, []).append(row)
    trees = [column.tree for column in query.columns] + [tree for tree, _ in query.order]
    wanted = [found for tree in trees for found in aggregates_of(tree)]
    result = []
    for members in groups.values():
        row = dict(members[0]) if members else {}
        for tree in wanted:
            _kind, name, inner = tree
            values = [1 if inner is None else evaluate(inner, member) for member in members]
            row[tree] = aggregate(name, values)
        result.append(row)
    return result


def _shown(query, rows, database):
    names = []
    for number, column in enumerate(query.columns, 1):
        if column.tree is None:
            if query.groups:
                raise QueryError("* cannot stand in a query with GROUP BY")
            sources = [(query.table, query.alias)] + [(join.table, join.alias) for join in query.joins]
            names += [key.rpartition(".")[2] for source in sources for key in database.columns(*source)]
        else:
            names.append(column.name or "column%d" % number)
    result = []
    for row in rows:
        values = []
        for column in query.columns:
            if column.tree is None:
                values += [value for key, value in row.items() if isinstance(key, str)]
            else:
                values.append(evaluate(column.tree, row))
        result.append(tuple(values))
    return names, result
