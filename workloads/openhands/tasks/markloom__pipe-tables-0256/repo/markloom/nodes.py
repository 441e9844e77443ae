"""What a document consists of. Nodes compare by their content, which tests like."""


class Node:
    fields = ()

    def __eq__(self, other):
        return type(self) is type(other) and self._parts() == other._parts()

    def __hash__(self):
        return hash(type(self).__name__)

    def _parts(self):
        return [getattr(self, name) for name in self.fields]

    def __repr__(self):
        return "%s(%s)" % (type(self).__name__, ", ".join(repr(part) for part in self._parts()))


class Heading(Node):
    fields = ("level", "content")

    def __init__(self, level, content):
        self.level = level
        self.content = content


class Paragraph(Node):
    fields = ("content",)

    def __init__(self, content):
        self.content = content


class Items(Node):
    """A list; ``start`` is the first number, or ``None`` for bullets. Each item is a list of blocks."""

    fields = ("start", "items")

    def __init__(self, start, items):
        self.start = start
        self.items = items


class Quote(Node):
    fields = ("blocks",)

    def __init__(self, blocks):
        self.blocks = blocks


class Code(Node):
    """Fenced code; ``language`` may be empty."""

    fields = ("language", "text")

    def __init__(self, language, text):
        self.language = language
        self.text = text


class Rule(Node):
    pass


class Text(Node):
    fields = ("text",)

    def __init__(self, text):
        self.text = text


class Span(Node):
    """Inline content that is marked: ``kind`` is ``em``, ``strong`` or ``code``."""

    fields = ("kind", "content")

    def __init__(self, kind, content):
        self.kind = kind
        self.content = content


class Link(Node):
    fields = ("content", "address")

    def __init__(self, content, address):
        self.content = content
        self.address = address
