"""From a line of text to a list of tokens."""

import re
from collections import namedtuple
from fractions import Fraction

from .errors import SyntaxFault

# kind is "number", "name", "op" or "end"; value is a Fraction for numbers and
# the text itself for everything else.
Token = namedtuple("Token", "kind value column")

_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_NAME = re.compile(r"[A-Za-z_]\w*")
_OPERATORS = "+-*/^(),="


def tokenize(text):
    """Return the tokens of one line, closed by an ``end`` token."""
    tokens = []
    position = 0
    while position < len(text):
        char = text[position]
        if char == "#":
            break
        if char.isspace():
            position += 1
            continue
        token, position = _read(text, position, tokens)
        tokens.append(token)
    tokens.append(Token("end", "", len(text) + 1))
    return tokens


def _read(text, position, before):
    column = position + 1
    char = text[position]
    sign = 1
    if char == "-" and not _ends_operand(before):
        # The sign of a number: "-5 degC" is not the opposite of "5 degC".
        if _NUMBER.match(text, position + 1):
            sign = -1
            position += 1
    match = _NUMBER.match(text, position)
    if match:
        return Token("number", sign * Fraction(match.group()), column), match.end()
    match = _NAME.match(text, position)
    if match:
        return Token("name", match.group(), column), match.end()
    if char in _OPERATORS:
        return Token("op", char, column), position + 1
    raise SyntaxFault(f"unexpected character {char!r}", column)


def _ends_operand(tokens):
    """True where a minus behind ``tokens`` must be a subtraction."""
    if not tokens:
        return False
    last = tokens[-1]
    if last.kind == "name":
        return last.value != "to"
    return last.kind == "number" or last.value == ")"
