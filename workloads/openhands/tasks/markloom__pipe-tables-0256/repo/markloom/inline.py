"""Inline markup: from a text to a list of nodes."""

import re

from .nodes import Link, Span, Text

_LINK = re.compile(r"\[([^\]]*)\]\(([^()\s]*)\)")
_PUNCTUATION = set("\\`*_[](){}#+-.!|>")


def parse_inline(text):
    """Nodes of ``text``. Marks without a partner are ordinary characters."""
    found, plain, at = [], "", 0

    def flush():
        nonlocal plain
        if plain:
            found.append(Text(plain))
            plain = ""

    while at < len(text):
        char = text[at]
        if char == "\\" and text[at + 1:at + 2] in _PUNCTUATION:
            plain += text[at + 1]
            at += 2
            continue
        end = None
        if char == "`":
            end = text.find("`", at + 1)
            if end > at + 1:
                flush()
                found.append(Span("code", [Text(text[at + 1:end])]))
                at = end + 1
                continue
        if char == "*":
            mark = "**" if text.startswith("**", at) else "*"
            end = _closing(text, at + len(mark), mark)
            if end is not None:
                flush()
                inner = parse_inline(text[at + len(mark):end])
                found.append(Span("strong" if mark == "**" else "em", inner))
                at = end + len(mark)
                continue
        if char == "[":
            match = _LINK.match(text, at)
            if match:
                flush()
                found.append(Link(parse_inline(match.group(1)), match.group(2)))
                at = match.end()
                continue
        plain += char
        at += 1
    flush()
    return found


def _closing(text, at, mark):
    """Where ``mark`` closes what began before ``at``; code spans and escapes in between are skipped."""
    start = at
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text[at] == "`" and "`" in text[at + 1:]:
            at = text.index("`", at + 1) + 1
        elif text.startswith(mark, at) and at > start:
            return at
        elif text.startswith("**", at):
            at += 2
        else:
            at += 1
    return None
