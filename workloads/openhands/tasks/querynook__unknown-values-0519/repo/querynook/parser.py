"""From the text of a query to a :class:`Query` of tuples.

Trees: ``("value", x)``, ``("column", name)``, ``("compare", op, l, r)``, ``("arithmetic", op, l, r)``, ``("and", l, r)``,
``("or", l, r)``, ``("not", t)``, ``("null", t)``, ``("aggregate", NAME, tree or None)``.
"""

import re
from collections import namedtuple

from .errors import QueryError

Query = namedtuple("Query", "columns table alias joins where groups order limit")
Join = namedtuple("Join", "table alias outer condition")
Column = namedtuple("Column", "tree name")
"""``tree`` is ``None`` for ``*``."""

AGGREGATES = ("COUNT", "SUM", "AVG", "MIN", "MAX")
_KEYWORDS = set("SELECT FROM JOIN LEFT ON WHERE GROUP ORDER BY DESC ASC LIMIT AS AND OR NOT IS NULL".split())
_TOKEN = re.compile(r"""\s*(?:
    (?P<number>\d+(?:\.\d+)?)
  | (?P<text>'(?:[^']|'')*')
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)?)
  | (?P<mark><=|>=|<>|[-+*/=<>(),])
)""", re.VERBOSE)


def tokens_of(text):
    found, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise QueryError("cannot read %r" % text[at:at + 10].strip())
        kind, token = match.lastgroup, match.group(match.lastgroup)
        if kind == "word" and token.upper() in _KEYWORDS:
            kind, token = "keyword", token.upper()
        found.append((kind, token))
        at = match.end()
    return found + [("end", "")]


class _Parser:
    def __init__(self, text):
        self.tokens = tokens_of(text)
        self.at = 0

    def next_is(self, *words):
        return self.tokens[self.at][0] in ("keyword", "mark") and self.tokens[self.at][1] in words

    def take(self, *words):
        """The next token if it is one of ``words``."""
        if self.next_is(*words):
            self.at += 1
            return self.tokens[self.at - 1][1]
        return None

    def need(self, *words):
        for word in words:
            if self.take(word) is None:
                raise QueryError("expected %s, found %s" % (word, self.tokens[self.at][1] or "the end"))

    def name(self):
        kind, token = self.tokens[self.at]
        if kind != "word":
            raise QueryError("expected a name, found %s" % (token or "the end"))
        self.at += 1
        return token

    def list_of(self, part):
        found = [part()]
        while self.take(","):
            found.append(part())
        return found

    def query(self):
        self.need("SELECT")
        columns = self.list_of(self.column)
        self.need("FROM")
        table, alias = self.source()
        joins, where, groups, order, limit = [], None, [], [], None
        while self.next_is("JOIN", "LEFT"):
            outer = self.take("LEFT") is not None
            self.need("JOIN")
            joined = self.source()
            self.need("ON")
            joins.append(Join(joined[0], joined[1], outer, self.condition()))
        if self.take("WHERE"):
            where = self.condition()
        if self.take("GROUP"):
            self.need("BY")
            groups = self.list_of(self.sum)
        if self.take("ORDER"):
            self.need("BY")
            order = self.list_of(self.ordering)
        if self.take("LIMIT"):
            kind, token = self.tokens[self.at]
            if kind != "number" or "." in token:
                raise QueryError("expected a whole number after LIMIT")
            limit = int(token)
            self.at += 1
        if self.tokens[self.at][0] != "end":
            raise QueryError("unexpected %s" % self.tokens[self.at][1])
        return Query(columns, table, alias, joins, where, groups, order, limit)

    def source(self):
        table = self.name()
        self.take("AS")
        return table, self.name() if self.tokens[self.at][0] == "word" else table

    def column(self):
        if self.take("*"):
            return Column(None, "*")
        tree = self.condition()
        if self.take("AS"):
            return Column(tree, self.name())
        return Column(tree, tree[1].rpartition(".")[2] if tree[0] == "column" else "")

    def ordering(self):
        tree = self.sum()
        return tree, self.take("DESC", "ASC") == "DESC"

    def condition(self):
        tree = self.conjunction()
        while self.take("OR"):
            tree = ("or", tree, self.conjunction())
        return tree

    def conjunction(self):
        tree = self.negation()
        while self.take("AND"):
            tree = ("and", tree, self.negation())
        return tree

    def negation(self):
        if self.take("NOT"):
            return ("not", self.negation())
        tree = self.sum()
        if self.take("IS"):
            negated = self.take("NOT") is not None
            self.need("NULL")
            return ("not", ("null", tree)) if negated else ("null", tree)
        operator = self.take("=", "<>", "<", "<=", ">", ">=")
        return ("compare", operator, tree, self.sum()) if operator else tree

    def sum(self):
        tree = self.product()
        while self.next_is("+", "-"):
            operator = self.take("+", "-")
            tree = ("arithmetic", operator, tree, self.product())
        return tree

    def product(self):
        tree = self.atom()
        while self.next_is("*", "/"):
            operator = self.take("*", "/")
            tree = ("arithmetic", operator, tree, self.atom())
        return tree

    def atom(self):
        kind, token = self.tokens[self.at]
        if self.take("("):
            tree = self.condition()
            self.need(")")
            return tree
        if self.take("-"):
            return ("arithmetic", "-", ("value", 0), self.atom())
        self.at += 1
        if kind == "number":
            return ("value", float(token) if "." in token else int(token))
        if kind == "text":
            return ("value", token[1:-1].replace("''", "'"))
        if (kind, token) == ("keyword", "NULL"):
            return ("value", None)
        if kind == "word" and token.upper() in AGGREGATES and self.take("("):
            return self.aggregate(token.upper())
        if kind == "word":
            return ("column", token)
        raise QueryError("unexpected %s" % (token or "end"))

    def aggregate(self, name):
        tree = None if name == "COUNT" and self.take("*") else self.sum()
        self.need(")")
        return ("aggregate", name, tree)


def parse(text):
    """The query of a text; ``QueryError`` says what was not understood."""
    return _Parser(text).query()
