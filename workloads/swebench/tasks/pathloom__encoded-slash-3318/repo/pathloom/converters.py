"""Converters: how the text of a variable becomes a value, and back.

``pattern`` is matched against canonical (still percent-encoded) text.
``to_python`` receives the decoded text and raises ``ValueError`` to decline.
``to_url`` returns encoded text.  ``weight`` orders routes that differ only in
their converters: lighter ones are tried first.
"""

from .encoding import encode
from .errors import TemplateError


class Converter:
    """Base class; also the plain ``str`` converter without its limits."""

    name = "str"
    pattern = r"[^/]+"
    weight = 50

    def to_python(self, text):
        return text

    def to_url(self, value):
        return encode(str(value))


class StrConverter(Converter):
    """Any text within one segment, optionally ``str(min, max)`` long."""

    def __init__(self, shortest="1", longest=None):
        self.shortest = int(shortest)
        self.longest = None if longest is None else int(longest)

    def to_python(self, text):
        if len(text) < self.shortest:
            raise ValueError("shorter than %d" % self.shortest)
        if self.longest is not None and len(text) > self.longest:
            raise ValueError("longer than %d" % self.longest)
        return text


class IntConverter(Converter):
    """A decimal integer; ``int(4)`` wants exactly four digits."""

    name = "int"
    pattern = r"-?[0-9]+"
    weight = 10

    def __init__(self, digits=None):
        self.digits = None if digits is None else int(digits)
        if self.digits is not None:
            self.pattern = r"[0-9]{%d}" % self.digits

    def to_python(self, text):
        return int(text)

    def to_url(self, value):
        number = int(value)
        if self.digits is None:
            return str(number)
        return str(number).zfill(self.digits)


class AnyConverter(Converter):
    """One of a fixed set of words: ``any(draft, final)``."""

    name = "any"
    weight = 5

    def __init__(self, *words):
        if not words:
            raise TemplateError("any() needs at least one word")
        self.words = frozenset(words)

    def to_python(self, text):
        if text not in self.words:
            raise ValueError("not one of the listed words")
        return text


class PathConverter(Converter):
    """The rest of a path, slashes included."""

    name = "path"
    pattern = r"[^/].*"
    weight = 90


DEFAULT = {
    "str": StrConverter,
    "int": IntConverter,
    "any": AnyConverter,
    "path": PathConverter,
}
