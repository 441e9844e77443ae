"""Plain text of blocks: lists of lines, without blanks at their ends."""

import textwrap

from . import nodes


def to_plain_blocks(blocks, width):
    """All blocks with a blank line between them."""
    return "\n".join(_lines(blocks, width))


def _lines(blocks, width):
    lines = []
    for number, block in enumerate(blocks):
        if number:
            lines.append("")
        lines += _block(block, max(20, width))
    return lines


def _block(block, width):
    if isinstance(block, nodes.Heading):
        text = inline(block.content)
        return [text, "=-~."[block.level - 1] * len(text)]
    if isinstance(block, nodes.Paragraph):
        return textwrap.wrap(inline(block.content), width) or [""]
    if isinstance(block, nodes.Rule):
        return ["-" * width]
    if isinstance(block, nodes.Code):
        return _indented(block.text.split("\n"), "    ", "    ")
    if isinstance(block, nodes.Quote):
        return _indented(_lines(block.blocks, width - 2), "> ", "> ")
    if isinstance(block, nodes.Items):
        return _items(block, width)
    raise TypeError("not a block: %r" % block)


def _items(items, width):
    lines = []
    for number, blocks in enumerate(items.items):
        marker = "* " if items.start is None else "%d. " % (items.start + number)
        lines += _indented(_lines(blocks, width - len(marker)), marker, " " * len(marker))
    return lines


def _indented(lines, first, rest):
    return [((first if number == 0 else rest) + line).rstrip() for number, line in enumerate(lines)]


def inline(content):
    """Inline nodes without their marks; addresses of links follow in brackets."""
    told = ""
    for node in content:
        if isinstance(node, nodes.Text):
            told += node.text
        elif isinstance(node, nodes.Link):
            told += "%s (%s)" % (inline(node.content), node.address)
        else:
            told += inline(node.content)
    return told
