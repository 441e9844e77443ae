"""HTML of blocks."""

from . import nodes


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def to_html_blocks(blocks):
    """All blocks, each on lines of its own."""
    return "\n".join(_block(block) for block in blocks)


def _block(block):
    if isinstance(block, nodes.Heading):
        return "<h%d>%s</h%d>" % (block.level, inline(block.content), block.level)
    if isinstance(block, nodes.Paragraph):
        return "<p>%s</p>" % inline(block.content)
    if isinstance(block, nodes.Rule):
        return "<hr>"
    if isinstance(block, nodes.Code):
        language = ' class="language-%s"' % escape(block.language) if block.language else ""
        return "<pre><code%s>%s</code></pre>" % (language, escape(block.text))
    if isinstance(block, nodes.Quote):
        return "<blockquote>\n%s\n</blockquote>" % to_html_blocks(block.blocks)
    if isinstance(block, nodes.Items):
        return _items(block)
    raise TypeError("not a block: %r" % block)


def _items(items):
    tag = "ul" if items.start is None else "ol"
    start = ' start="%d"' % items.start if items.start not in (None, 1) else ""
    inner = []
    for blocks in items.items:
        if len(blocks) == 1 and isinstance(blocks[0], nodes.Paragraph):
            inner.append("<li>%s</li>" % inline(blocks[0].content))
        else:
            inner.append("<li>\n%s\n</li>" % to_html_blocks(blocks))
    return "<%s%s>\n%s\n</%s>" % (tag, start, "\n".join(inner), tag)


def inline(content):
    """Inline nodes one after another."""
    told = ""
    for node in content:
        if isinstance(node, nodes.Text):
            told += escape(node.text)
        elif isinstance(node, nodes.Span):
            told += "<%s>%s</%s>" % (node.kind, inline(node.content), node.kind)
        else:
            told += '<a href="%s">%s</a>' % (escape(node.address), inline(node.content))
    return told
