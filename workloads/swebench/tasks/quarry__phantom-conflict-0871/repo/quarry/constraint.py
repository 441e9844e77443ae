"""Version constraints such as ``^1.4``, ``~0.3.1``, ``>=2,<4`` or ``1.x || 3.x``."""

import operator
import re

from .version import Version

_OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}
_TERM = re.compile(
    r"(?P<op>\^|~|<=|>=|<|>|=)?\s*"
    r"(?P<major>\d+|[xX*])(?:\.(?P<minor>\d+|[xX*]))?(?:\.(?P<patch>\d+|[xX*]))?"
    r"(?:-(?P<pre>[0-9A-Za-z.-]+))?"
)


class ConstraintError(ValueError):
    """The text is not a version constraint."""


def _step(numbers, position):
    """The first version after everything that shares ``numbers[:position + 1]``."""
    raised = list(numbers[:position + 1])
    raised[position] += 1
    return Version(*raised)


def _expand(term):
    """Turn one written term into a list of ``(operator, Version)`` comparators."""
    match = _TERM.fullmatch(term)
    if match is None:
        raise ConstraintError("cannot read constraint term %r" % term)
    numbers = []
    for group in ("major", "minor", "patch"):
        part = match.group(group)
        if part is None or not part.isdigit():
            break
        numbers.append(int(part))
    if not numbers:
        return []
    pre = tuple(match.group("pre").split(".")) if match.group("pre") else ()
    floor = Version(*(numbers + [0, 0])[:3], pre=pre)
    last = len(numbers) - 1
    op = match.group("op") or "="
    if op == "^":
        # The leftmost non-zero number is the one that may not change.
        pivot = next((i for i, number in enumerate(numbers) if number), last)
        return [(">=", floor), ("<", _step(numbers, pivot))]
    if op == "~":
        return [(">=", floor), ("<", _step(numbers, min(last, 1)))]
    if last == 2:
        return [(op, floor)]
    if op == "=":
        return [(">=", floor), ("<", _step(numbers, last))]
    if op == ">":
        return [(">=", _step(numbers, last))]
    if op == "<=":
        return [("<", _step(numbers, last))]
    return [(op, floor)]


class Constraint:
    """Alternatives (``||``) of comparators that must all hold (``,``)."""

    def __init__(self, text, alternatives):
        self.text = text
        self._alternatives = alternatives

    @classmethod
    def parse(cls, text):
        alternatives = []
        for choice in text.split("||"):
            comparators = []
            for term in choice.split(","):
                comparators.extend(_expand(term.strip()))
            alternatives.append(tuple(comparators))
        return cls(text.strip(), tuple(alternatives))

    def admits(self, version):
        """True if some alternative holds for ``version``.

        A pre-release is admitted only where a comparator names a pre-release
        of the same major.minor.patch.
        """
        return any(self._holds(comparators, version) for comparators in self._alternatives)

    @staticmethod
    def _holds(comparators, version):
        if version.pre and not any(bound.pre and bound.triple == version.triple
                                   for _, bound in comparators):
            return False
        return all(_OPERATORS[op](version, bound) for op, bound in comparators)

    def __str__(self):
        return self.text

    def __repr__(self):
        return "Constraint(%r)" % self.text
