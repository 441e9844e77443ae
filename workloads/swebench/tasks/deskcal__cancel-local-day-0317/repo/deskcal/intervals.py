"""Half-open spans of time and the set arithmetic on lists of them."""

from collections import namedtuple
from datetime import timedelta

from .clock import parse_instant, to_utc


class Interval(namedtuple("Interval", "start end")):
    """The instants from ``start`` up to, and not including, ``end``."""

    __slots__ = ()

    def __new__(cls, start, end):
        start, end = to_utc(start), to_utc(end)
        if end <= start:
            raise ValueError("an interval must end after it starts")
        return super().__new__(cls, start, end)

    @classmethod
    def lasting(cls, start, minutes):
        """The interval of ``minutes`` that begins at ``start``."""
        return cls(start, start + timedelta(minutes=minutes))

    @property
    def minutes(self):
        """Length in whole minutes."""
        return int((self.end - self.start).total_seconds() // 60)

    def overlaps(self, other):
        """True where the two spans share at least one instant."""
        return self.start < other.end and other.start < self.end

    def clip(self, other):
        """The part of this span inside ``other``, or None."""
        if not self.overlaps(other):
            return None
        return Interval(max(self.start, other.start), min(self.end, other.end))


def window(start, end):
    """An :class:`Interval` from two instants written as text."""
    return Interval(parse_instant(start), parse_instant(end))


def merge(spans):
    """Sorted spans with overlapping and touching ones joined."""
    merged = []
    for span in sorted(spans):
        if merged and span.start <= merged[-1].end:
            last = merged.pop()
            span = Interval(last.start, max(last.end, span.end))
        merged.append(span)
    return merged


def subtract(spans, holes):
    """What is left of ``spans`` outside all ``holes``, merged and sorted."""
    holes = merge(holes)
    left = []
    for span in merge(spans):
        cursor = span.start
        for hole in holes:
            if hole.end <= cursor:
                continue
            if hole.start >= span.end:
                break
            if hole.start > cursor:
                left.append(Interval(cursor, hole.start))
            cursor = hole.end
        if cursor < span.end:
            left.append(Interval(cursor, span.end))
    return left
