"""The front door."""

from .parser import parse
from .render import render


class Template:
    """A template, parsed once, rendered as often as you like."""

    def __init__(self, source):
        self._nodes = parse(source)

    def render(self, **values):
        """The text with ``values`` filled in; what was given is not changed."""
        out = []
        render(self._nodes, dict(values), out)
        return "".join(out)
