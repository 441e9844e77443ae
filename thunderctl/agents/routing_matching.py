"""Holds answers against their rules: exact and normalised matching, by no model. Nothing here reads files."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from thunderctl.workload.routing import ChoiceRule, ListRule, NumberRule, TextRule

_DASHES = str.maketrans("−–—’‘′ʼ", "---''''")
_LATEX = re.compile(r"\\(?:text|mathrm|mathbf|boxed)\{([^{}]*)\}")
_LEAD = re.compile(r"(?:\w+\s*[=:])?\s*(?:about|approximately|approx\.?|roughly|ca\.|≈|~)?\s*", re.IGNORECASE)
_FIGURE = re.compile(
    r"(?P<figure>[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?)(?:\s*/\s*(?P<under>\d+))?"
    r"(?:\s*(?:×|x|\*|\\times)\s*10\^?\{?(?P<ten>[-+]?\d+)\}?)?"
)
_ARTICLE = re.compile(r"^(?:the|a|an) ")
_BETWEEN = re.compile(r"\s*[;\n]\s*|,\s+(?:and\s+)?|\s+and\s+")


def verdict(rule: NumberRule | TextRule | ChoiceRule | ListRule, answer: str) -> tuple[bool, dict[str, bool | float]]:
    """Whether the answer is right, and for a list how much of it is."""
    if not isinstance(rule, ListRule):
        right = _single(rule, answer)
        return right, {"right": right}
    said = [piece for piece in _BETWEEN.split(_plain(answer)) if piece]
    if rule.ordered:
        found = [place < len(said) and _single(item, said[place]) for place, item in enumerate(rule.items)]
    else:
        found = [any(_single(item, piece) for piece in said) for item in rule.items]
    right = all(found) and len(said) == len(rule.items)
    return right, {"right": right, "share of items right": sum(found) / len(found)}


def _single(rule: NumberRule | TextRule | ChoiceRule, answer: str) -> bool:
    match rule:
        case NumberRule():
            return _is_number(rule, _plain(answer))
        case ChoiceRule():
            return re.fullmatch(rf"\(?{rule.letter}(?:[).:]|\b).*", _plain(answer), re.DOTALL) is not None
        case TextRule():
            return _words(answer) in {_words(accepted) for accepted in rule.accept}


def _plain(text: str) -> str:
    """Without mark-up, and with one form of dashes and apostrophes."""
    return _LATEX.sub(r"\1", text.translate(_DASHES)).replace("$", "").replace("**", "").strip()


def _words(text: str) -> str:
    bare = " ".join(_plain(text).casefold().split()).strip(' ,;:!?"`').rstrip(".")
    return _ARTICLE.sub("", bare)


def _is_number(rule: NumberRule, text: str) -> bool:
    lead = _LEAD.match(text)
    figure = _FIGURE.match(text, lead.end() if lead else 0)
    if figure is None or not re.search(r"\d", figure["figure"]):
        return False
    value = float(figure["figure"].replace(",", ""))
    if figure["under"]:
        if not int(figure["under"]):
            return False
        value = float(Fraction(value) / int(figure["under"]))
    if figure["ten"]:
        value *= 10.0 ** int(figure["ten"])
    unit = _words(text[figure.end() :])
    if unit:
        known = {_words(name): factor for name, factor in rule.units.items()}
        if unit not in known:
            return False
        value *= known[unit]
    return math.isclose(value, rule.value, rel_tol=max(rule.relative, 1e-9), abs_tol=max(rule.absolute, 1e-12))
