"""From the text of a formula to a tree of tuples.

Trees: ``("number", x)``, ``("text", s)``, ``("ref", Ref)``, ``("block", Block)``, ``("unary", sign, tree)``,
``("binary", operator, left, right)``, ``("call", NAME, [trees])``.
"""

import re

from .errors import FormulaError
from .refs import Block, Ref

_TOKEN = re.compile(r"""
    (?P<space>\s+)
  | (?P<number>\d+(?:\.\d*)?|\.\d+)
  | (?P<text>"(?:[^"]|"")*")
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<mark><=|>=|<>|[-+*/^&=<>(),;:])
""", re.VERBOSE)

_LEVELS = (("=", "<>", "<", "<=", ">", ">="), ("&",), ("+", "-"), ("*", "/"))
"""Binary operators from those that bind least to those that bind most; ``^`` binds more and to the right."""


def tokens_of(text):
    """``[(kind, text, position), …]`` with an end marker."""
    position, found = 0, []
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise FormulaError("unexpected %r" % text[position], position)
        if match.lastgroup != "space":
            found.append((match.lastgroup, match.group(), position))
        position = match.end()
    found.append(("end", "", position))
    return found


class _Parser:
    def __init__(self, text):
        self.tokens = tokens_of(text)
        self.at = 0

    @property
    def token(self):
        return self.tokens[self.at]

    def take(self, *marks):
        """The next token's text if it is one of ``marks``, else ``None``."""
        kind, text, _ = self.token
        if kind == "mark" and text in marks:
            self.at += 1
            return text
        return None

    def expect(self, mark):
        if self.take(mark) is None:
            kind, text, position = self.token
            raise FormulaError("expected %r, found %s" % (mark, text or "the end"), position)

    def formula(self):
        tree = self.binary(0)
        kind, text, position = self.token
        if kind != "end":
            raise FormulaError("unexpected %r" % text, position)
        return tree

    def binary(self, level):
        if level == len(_LEVELS):
            return self.unary()
        tree = self.binary(level + 1)
        while True:
            operator = self.take(*_LEVELS[level])
            if operator is None:
                return tree
            tree = ("binary", operator, tree, self.binary(level + 1))

    def unary(self):
        sign = self.take("-", "+")
        if sign is not None:
            return ("unary", sign, self.unary())
        return self.power()

    def power(self):
        base = self.atom()
        if self.take("^") is not None:
            return ("binary", "^", base, self.unary())
        return base

    def atom(self):
        kind, text, position = self.token
        if kind == "number":
            self.at += 1
            return ("number", float(text))
        if kind == "text":
            self.at += 1
            return ("text", text[1:-1].replace('""', '"'))
        if kind == "name":
            self.at += 1
            if self.take("(") is not None:
                return ("call", text.upper(), self.arguments())
            return self.reference(text, position)
        if self.take("(") is not None:
            tree = self.binary(0)
            self.expect(")")
            return tree
        raise FormulaError("unexpected %s" % (repr(text) if text else "end"), position)

    def reference(self, text, position):
        first = self._ref(text, position)
        if self.take(":") is None:
            return ("ref", first)
        kind, text, position = self.token
        if kind != "name":
            raise FormulaError("expected a cell after ':'", position)
        self.at += 1
        return ("block", Block.between(first, self._ref(text, position)))

    def _ref(self, text, position):
        try:
            return Ref.parse(text)
        except ValueError as problem:
            raise FormulaError(str(problem), position) from None

    def arguments(self):
        if self.take(")") is not None:
            return []
        found = [self.binary(0)]
        while self.take(",", ";") is not None:
            found.append(self.binary(0))
        self.expect(")")
        return found


def parse(text):
    """The tree of a formula without its leading ``=``."""
    return _Parser(text).formula()


def mentioned(tree):
    """``(refs, blocks)`` that a tree mentions, each a set."""
    refs, blocks, pending = set(), set(), [tree]
    while pending:
        node = pending.pop()
        kind = node[0]
        if kind == "ref":
            refs.add(node[1])
        elif kind == "block":
            blocks.add(node[1])
        elif kind == "unary":
            pending.append(node[2])
        elif kind == "binary":
            pending.extend(node[2:])
        elif kind == "call":
            pending.extend(node[2])
    return refs, blocks
