"""Events, and reading them from text."""

from collections import namedtuple


class Event(namedtuple("Event", "key at value")):
    """Something that happened to ``key`` at time ``at`` (seconds) with a number."""

    __slots__ = ()

    def __new__(cls, key, at, value=1):
        return super().__new__(cls, key, at, value)


class LineError(ValueError):
    """A line that is no event; ``number`` counts from 1."""

    def __init__(self, number, line):
        self.number = number
        super().__init__("line %d is no event: %r" % (number, line))


def read_events(lines):
    """Events of lines ``KEY TIME [VALUE]``; blank lines and those that begin with # are passed over."""
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            key, at = words[0], float(words[1])
            value = float(words[2]) if len(words) > 2 else 1.0
        except (IndexError, ValueError):
            raise LineError(number, line.rstrip("\n")) from None
        if len(words) > 3:
            raise LineError(number, line.rstrip("\n"))
        yield Event(key, at, value)
