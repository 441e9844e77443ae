"""Zones: offsets from UTC and the instants at which they change."""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Optional


@dataclass(frozen=True)
class Segment:
    """A stretch of time with one offset: start <= instant < end.

    The first segment of a zone has no start and the last one no end.
    """

    index: int
    start: Optional[datetime]
    end: Optional[datetime]
    offset: timedelta

    def __contains__(self, instant):
        return ((self.start is None or self.start <= instant)
                and (self.end is None or instant < self.end))


class Zone:
    """A named sequence of segments."""

    def __init__(self, name, first_offset, changes=()):
        """`changes` are (instant, new offset) pairs in order of time."""
        self.name = name
        self._changes = [instant for instant, _ in changes]
        if any(a >= b for a, b in zip(self._changes, self._changes[1:])):
            raise ValueError("%s: changes are not in order" % name)
        offsets = [first_offset] + [offset for _, offset in changes]
        edges = [None] + self._changes + [None]
        self.segments = [Segment(index, edges[index], edges[index + 1], offset)
                         for index, offset in enumerate(offsets)]

    @classmethod
    def fixed(cls, name, minutes):
        """A zone that never changes, `minutes` ahead of UTC."""
        return cls(name, timedelta(minutes=minutes))

    @classmethod
    def with_changes(cls, name, minutes, changes):
        """A zone from texts: [('2025-03-30 01:00', 120), ...]."""
        return cls(name, timedelta(minutes=minutes),
                   [(datetime.strptime(text, "%Y-%m-%d %H:%M"),
                     timedelta(minutes=later)) for text, later in changes])

    def __repr__(self):
        return "Zone(%r, %d segments)" % (self.name, len(self.segments))

    def segment_at(self, instant):
        """The segment that an instant lies in."""
        return self.segments[bisect_left(self._changes, instant)]

    def following(self, segment):
        """The segment after that one, or None."""
        later = self.segments[segment.index + 1:]
        return later[0] if later else None

    def preceding(self, segment):
        """The segment before that one, or None."""
        return self.segments[segment.index - 1] if segment.index else None

    def to_local(self, instant):
        """The wall time that clocks show at an instant."""
        return instant + self.segment_at(instant).offset

    def instants_of(self, wall):
        """All instants at which clocks show `wall`: none, one or two."""
        return [wall - segment.offset for segment in self.segments
                if wall - segment.offset in segment]
