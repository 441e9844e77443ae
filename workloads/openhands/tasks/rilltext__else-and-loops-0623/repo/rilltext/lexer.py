"""Cuts a template into texts and tags."""

import re
from collections import namedtuple

from .errors import TemplateError


class Token(namedtuple("Token", "kind text line")):
    """``kind`` is ``text``, ``show`` or ``tag``; ``line`` is where it begins."""

    __slots__ = ()

    @property
    def word(self):
        """The first word of a tag."""
        return self.text.partition(" ")[0]


_TAG = re.compile(r"\{([%{#])()(.*?)()[%}#]\}", re.DOTALL)
_KINDS = {"{": "show", "%": "tag"}
_ENDS = {"{": "}", "%": "%", "#": "#"}


def tokens_of(source):
    """The tokens of a template; comments are left out."""
    found, at, line = [], 0, 1
    while True:
        match = _TAG.search(source, at)
        if match is None:
            break
        mark = match.group(1)
        line_of_tag = line + source.count("\n", at, match.start())
        if source[match.end() - 2] != _ENDS[mark]:
            raise TemplateError("a tag that begins with {%s ends with %s}" % (mark, source[match.end() - 2]), line_of_tag)
        text = source[at:match.start()]
        if text:
            found.append(Token("text", text, line))
        if mark != "#":
            found.append(Token(_KINDS[mark], " ".join(_words(match.group(3))), line_of_tag))
        line = line_of_tag + match.group().count("\n")
        at = match.end()
    rest = source[at:]
    if rest:
        found.append(Token("text", rest, line))
    return found


def _words(text):
    """Blanks and line breaks outside of quotes become single blanks."""
    parts = re.split(r"('[^']*')", text.strip())
    joined = "".join(part if number % 2 else re.sub(r"\s+", " ", part) for number, part in enumerate(parts))
    return [joined] if joined else []
