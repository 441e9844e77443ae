"""From the text of a query to groups of terms.

A term is a tuple of ``(position, word)``: one for a word, several for a phrase.
"""

import re
from collections import namedtuple

from .tokens import positioned

Group = namedtuple("Group", "terms excluded")
"""Terms of which one will do; or, if ``excluded``, none may be there."""

_TOKEN = re.compile(r'-?"[^"]*"?|\S+')


def parse_query(text, stop_words=frozenset()):
    """The groups of a query. Parts without any word that counts are left out."""
    tokens = _TOKEN.findall(text)
    groups, at = [], 0
    while at < len(tokens):
        token = tokens[at]
        if token == "OR" and groups and at + 1 < len(tokens):
            at += 1
            terms = tuple(term for group in groups for term in group.terms)
            groups = [Group(terms + _group(tokens[at], stop_words).terms, False)]
        else:
            groups.append(_group(token, stop_words))
        at += 1
    return [group for group in groups if group.terms]


def _group(token, stop_words):
    """A part of a query by itself. A part of several words, like ``self-made``, is a phrase."""
    excluded = token.startswith("-")
    term = tuple(positioned(token, stop_words))
    return Group((term,) if term else (), excluded)
