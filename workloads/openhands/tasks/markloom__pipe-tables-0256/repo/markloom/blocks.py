"""Blocks: from a source text to a list of nodes."""

import re

from .inline import parse_inline
from .nodes import Code, Heading, Items, Paragraph, Quote, Rule

_HEADING = re.compile(r"(#{1,4}) +(.*?)(?: +#+)?$")
_RULE = re.compile(r" {0,3}-{3,} *$")
_FENCE = re.compile(r"```(\w*) *$")
_QUOTE = re.compile(r" {0,3}> ?")
_BULLET = re.compile(r"([*-]) +(?=\S)")
_NUMBER = re.compile(r"(\d{1,4})\. +(?=\S)")
_INTERRUPTING = (_HEADING, _RULE, _FENCE, _QUOTE, _BULLET, _NUMBER)


def parse(source):
    """The blocks of ``source``."""
    return parse_lines(source.expandtabs(4).splitlines())


def parse_lines(lines):
    """The blocks of some lines, which are a document of their own, an item's or a quote's content."""
    blocks, at = [], 0
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
            continue
        match = _HEADING.match(line)
        if match:
            blocks.append(Heading(len(match.group(1)), parse_inline(match.group(2))))
            at += 1
            continue
        if _RULE.match(line):
            blocks.append(Rule())
            at += 1
            continue
        match = _FENCE.match(line)
        if match:
            block, at = _code(lines, at, match.group(1))
            blocks.append(block)
            continue
        if _QUOTE.match(line):
            block, at = _quote(lines, at)
            blocks.append(block)
            continue
        if _BULLET.match(line) or _NUMBER.match(line):
            block, at = _items(lines, at)
            blocks.append(block)
            continue
        start = at
        at += 1
        while at < len(lines) and not _ends_paragraph(lines, at):
            at += 1
        blocks.append(Paragraph(parse_inline(" ".join(part.strip() for part in lines[start:at]))))
    return blocks


def _ends_paragraph(lines, at):
    line = lines[at]
    return not line.strip() or any(mark.match(line) for mark in _INTERRUPTING)


def _code(lines, at, language):
    """Everything up to the closing fence, or to the end."""
    text, at = [], at + 1
    while at < len(lines) and not _FENCE.match(lines[at]):
        text.append(lines[at])
        at += 1
    return Code(language, "\n".join(text)), at + 1


def _quote(lines, at):
    """All lines with the mark, without it."""
    inner = []
    while at < len(lines) and _QUOTE.match(lines[at]):
        inner.append(_QUOTE.sub("", lines[at], count=1))
        at += 1
    return Quote(parse_lines(inner)), at


def _items(lines, at):
    """A list and the number of the line behind it. Its items have markers of one kind."""
    numbered = _NUMBER.match(lines[at])
    marker = _NUMBER if numbered else _BULLET
    start = int(numbered.group(1)) if numbered else None
    items = []
    while at < len(lines):
        match = marker.match(lines[at])
        if not match:
            break
        width = match.end()
        inner = [lines[at][width:]]
        at += 1
        while at < len(lines):
            line = lines[at]
            if line.strip() and not line.startswith(" " * width):
                break
            if not line.strip() and not _goes_on(lines, at, width):
                break
            inner.append(line[width:])
            at += 1
        items.append(parse_lines(inner))
        while at < len(lines) and not lines[at].strip() and _next_is(lines, at, marker):
            at += 1
    return Items(start, items), at


def _goes_on(lines, at, width):
    """Whether the next line that is not blank belongs to the item."""
    rest = [line for line in lines[at:] if line.strip()]
    return bool(rest) and rest[0].startswith(" " * width)


def _next_is(lines, at, marker):
    rest = [line for line in lines[at:] if line.strip()]
    return bool(rest) and marker.match(rest[0]) is not None
