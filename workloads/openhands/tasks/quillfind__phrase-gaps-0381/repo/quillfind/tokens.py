"""Words of texts."""

import re

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def words(text):
    """All words in order, in lower case."""
    return [match.group().lower() for match in _WORD.finditer(text)]


def spans(text):
    """``(start, end)`` of all words in order."""
    return [match.span() for match in _WORD.finditer(text)]


def positioned(text, stop_words):
    """``(position, word)`` of every word that is no stop word."""
    return list(enumerate(word for word in words(text) if word not in stop_words))
