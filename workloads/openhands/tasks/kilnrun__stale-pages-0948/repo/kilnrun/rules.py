"""Rules: what is made from what, and in which order."""

from collections import namedtuple

from .errors import RuleError

Rule = namedtuple("Rule", "target inputs recipe")
"""``inputs`` is a tuple of names; ``recipe`` a text: a function's name and its arguments."""


def parse_rules(text):
    """Rules by target, in the order of the text."""
    rules, head = {}, None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t":
            if head is None:
                raise RuleError("a recipe without a rule", number)
            target, inputs, _line = head
            rules[target] = Rule(target, inputs, " ".join(line.split()))
            head = None
            continue
        if head is not None:
            raise RuleError("%s has no recipe" % head[0], head[2])
        target, colon, inputs = line.partition(":")
        target = target.strip()
        if not colon or not target or " " in target:
            raise RuleError("wanted: TARGET: INPUTS", number)
        if target in rules:
            raise RuleError("there are two rules for %s" % target, number)
        names = tuple(inputs.split())
        if len(set(names)) != len(names):
            raise RuleError("an input of %s stands there twice" % target, number)
        head = (target, names, number)
    if head is not None:
        raise RuleError("%s has no recipe" % head[0], head[2])
    return rules


def in_order(rules, goals):
    """The rules that ``goals`` need, inputs before what is made from them. ``RuleError`` for a circle."""
    order, done, path = [], set(), []

    def visit(name):
        if name in done or name not in rules:
            return
        if name in path:
            circle = path[path.index(name):] + [name]
            raise RuleError("%s needs itself: %s" % (name, " <- ".join(circle)))
        path.append(name)
        for other in rules[name].inputs:
            visit(other)
        path.pop()
        done.add(name)
        order.append(rules[name])

    for goal in goals:
        if goal not in rules:
            raise RuleError("there is no rule for %s" % goal)
        visit(goal)
    return order
