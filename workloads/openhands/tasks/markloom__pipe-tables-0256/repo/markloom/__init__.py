"""markloom: a lightweight markup for manuals."""

from .blocks import parse
from .html import to_html_blocks
from .nodes import Heading
from .plain import inline as plain_inline
from .plain import to_plain_blocks


def to_html(source):
    """The source as HTML, one block after another."""
    return to_html_blocks(parse(source))


def to_plain(source, width=72):
    """The source as plain text, with paragraphs filled to ``width``."""
    return to_plain_blocks(parse(source), width)


def outline(source):
    """``(level, text)`` of the headings at the top level, in order."""
    return [(block.level, plain_inline(block.content)) for block in parse(source) if isinstance(block, Heading)]


__all__ = ["outline", "parse", "to_html", "to_plain"]
