"""Decides what has to be made, and makes it."""

from .errors import RecipeFailed
from .recipes import RECIPES
from .rules import in_order
from .state import State


class Builder:
    """Builds targets of some rules in a tree."""

    def __init__(self, tree, rules):
        self._tree = tree
        self._rules = rules
        self._state = State(tree)

    def plan(self, *goals):
        """``(target, reason)`` of everything that may have to be run for ``goals`` (all targets without), in order."""
        found, may_change = [], set()
        for rule in in_order(self._rules, goals or self._rules):
            reason = self._reason(rule)
            behind = [name for name in rule.inputs if name in may_change]
            if reason is None and behind:
                reason = "%s may change" % behind[0]
            if reason is not None:
                found.append((rule.target, reason))
                may_change.add(rule.target)
        return found

    def build(self, *goals):
        """Make what has to be made for ``goals`` (all targets without); names of what was made, in order.

        ``RecipeFailed`` at the first target that cannot be made; what was made before it stays made.
        """
        order = in_order(self._rules, goals or self._rules)
        made = []
        for rule in order:
            self._need_inputs(rule)
            if self._reason(rule) is None and not any(name in made for name in rule.inputs):
                continue
            self._make(rule)
            made.append(rule.target)
        self._state.save()
        return made

    def _reason(self, rule):
        """Why a target has to be made, or ``None`` if it is up to date."""
        record = self._state.record(rule.target)
        if record is None:
            return "never made"
        for name in rule.inputs:
            if name not in record["inputs"]:
                return "%s is new" % name
            if self._tree.time(name) > self._tree.time(rule.target):
                return "%s changed" % name
        return None

    def _need_inputs(self, rule):
        for name in rule.inputs:
            if not self._tree.exists(name):
                raise RecipeFailed(rule.target, "%s is missing" % name)

    def _make(self, rule):
        name, *arguments = rule.recipe.split()
        if name not in RECIPES:
            raise RecipeFailed(rule.target, "there is no recipe %s" % name)
        digests = {name: self._tree.digest(name) for name in rule.inputs}
        texts = [self._tree.read(name) for name in rule.inputs]
        try:
            text = RECIPES[name](texts, arguments)
        except (ValueError, IndexError) as problem:
            raise RecipeFailed(rule.target, str(problem)) from None
        self._tree.write(rule.target, text)
        self._state.remember(rule.target, rule, digests, self._tree.digest(rule.target))
