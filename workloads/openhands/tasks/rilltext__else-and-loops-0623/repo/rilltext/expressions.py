"""Expressions: from a text to a tree of tuples, and from there to a value.

Trees: ``("value", x)``, ``("name", [parts])``, ``("not", t)``, ``("and", l, r)``, ``("or", l, r)``, ``("op", sign, l, r)``,
``("filter", name, tree, [trees])``; the last element of each is the line.
"""

import operator
import re

from .errors import TemplateError
from .filters import FILTERS

_TOKEN = re.compile(r"""\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<text>'[^']*')
  |(?P<name>[A-Za-z_]\w*(?:\.\w+)*)|(?P<mark>==|!=|<=|>=|[-+*/<>()|:,]))""", re.VERBOSE)
_LEVELS = (("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/"))
_OPERATORS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
              ">=": operator.ge, "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
              "in": lambda one, many: one in many}
_CONSTANTS = {"true": True, "false": False, "none": None}


class _Parser:
    def __init__(self, text, line):
        self.line = line
        self.tokens, at = [], 0
        text = text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise TemplateError("cannot read %r" % text[at:].strip()[:12], line)
            self.tokens.append((match.lastgroup, match.group(match.lastgroup)))
            at = match.end()
        self.tokens.append(("end", ""))
        self.at = 0

    def take(self, *texts):
        kind, text = self.tokens[self.at]
        if kind in ("mark", "name") and text in texts:
            self.at += 1
            return text
        return None

    def whole(self):
        tree = self.disjunction()
        if self.tokens[self.at][0] != "end":
            raise TemplateError("unexpected %s" % self.tokens[self.at][1], self.line)
        return tree

    def disjunction(self):
        tree = self.conjunction()
        while self.take("or"):
            tree = ("or", tree, self.conjunction(), self.line)
        return tree

    def conjunction(self):
        tree = self.negation()
        while self.take("and"):
            tree = ("and", tree, self.negation(), self.line)
        return tree

    def negation(self):
        if self.take("not"):
            return ("not", self.negation(), self.line)
        return self.binary(0)

    def binary(self, level):
        if level == len(_LEVELS):
            return self.filtered()
        tree = self.binary(level + 1)
        while True:
            sign = self.take(*_LEVELS[level])
            if sign is None:
                return tree
            tree = ("op", sign, tree, self.binary(level + 1), self.line)

    def filtered(self):
        tree = self.atom()
        while self.take("|"):
            kind, name = self.tokens[self.at]
            if kind != "name" or name not in FILTERS:
                raise TemplateError("there is no filter %s" % (name or "here"), self.line)
            self.at += 1
            arguments = []
            if self.take(":"):
                arguments.append(self.atom())
                while self.take(","):
                    arguments.append(self.atom())
            tree = ("filter", name, tree, arguments, self.line)
        return tree

    def atom(self):
        kind, text = self.tokens[self.at]
        if self.take("("):
            tree = self.disjunction()
            if not self.take(")"):
                raise TemplateError("a bracket is not closed", self.line)
            return tree
        if self.take("-"):
            return ("op", "-", ("value", 0, self.line), self.atom(), self.line)
        self.at += 1
        if kind == "number":
            return ("value", float(text) if "." in text else int(text), self.line)
        if kind == "text":
            return ("value", text[1:-1], self.line)
        if kind == "name":
            if text in _CONSTANTS:
                return ("value", _CONSTANTS[text], self.line)
            return ("name", text.split("."), self.line)
        raise TemplateError("unexpected %s" % (text or "end of an expression"), self.line)


def expression(text, line):
    """The tree of an expression."""
    return _Parser(text, line).whole()


def evaluate(tree, scope):
    """The value of a tree, with names from ``scope``."""
    kind, line = tree[0], tree[-1]
    if kind == "value":
        return tree[1]
    if kind == "name":
        return _look_up(tree[1], scope)
    if kind == "not":
        return not evaluate(tree[1], scope)
    if kind == "and":
        return evaluate(tree[1], scope) and evaluate(tree[2], scope)
    if kind == "or":
        return evaluate(tree[1], scope) or evaluate(tree[2], scope)
    try:
        if kind == "op":
            return _OPERATORS[tree[1]](evaluate(tree[2], scope), evaluate(tree[3], scope))
        return FILTERS[tree[1]](evaluate(tree[2], scope), *(evaluate(each, scope) for each in tree[3]))
    except (TypeError, ValueError, ArithmeticError) as problem:
        raise TemplateError("%s: %s" % (tree[1], problem), line) from None


def _look_up(parts, scope):
    """A name and its attributes, keys or numbers; ``None`` if anything of it is not there."""
    value = scope.get(parts[0])
    for part in parts[1:]:
        if isinstance(value, dict):
            value = value.get(part)
        elif part.isdigit() and isinstance(value, (list, tuple)):
            value = value[int(part)] if int(part) < len(value) else None
        elif part.startswith("_"):
            return None
        else:
            value = getattr(value, part, None)
    return value
