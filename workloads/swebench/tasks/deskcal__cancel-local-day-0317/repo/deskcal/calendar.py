"""A calendar: working hours, single bookings and series."""

from .intervals import Interval, merge, subtract
from .series import Occurrence


class Calendar:
    """Answers what is booked, and what is still free, inside a span."""

    def __init__(self, hours):
        self.hours = hours
        self._single = []
        self._series = []

    def book(self, title, start, minutes):
        """Add a single booking and return it."""
        booking = Occurrence(title, Interval.lasting(start, minutes))
        self._single.append(booking)
        return booking

    def add(self, series):
        """Add a series and return it."""
        self._series.append(series)
        return series

    def bookings(self, within):
        """All occurrences that overlap ``within``, by start and title."""
        found = [b for b in self._single if b.span.overlaps(within)]
        for series in self._series:
            found.extend(series.occurrences(within))
        return sorted(found, key=lambda o: (o.span, o.title))

    def busy(self, within):
        """The booked spans clipped to ``within``, merged."""
        return merge(o.span.clip(within) for o in self.bookings(within))

    def free(self, within, minimum=1):
        """Working time that nothing is booked in, in pieces of ``minimum``."""
        left = subtract(self.hours.open_spans(within), self.busy(within))
        return [span for span in left if span.minutes >= minimum]

    def clashes(self, span):
        """Titles of the bookings that a new one at ``span`` would hit."""
        return [o.title for o in self.bookings(span)]

    def agenda(self, within):
        """Lines such as ``2024-03-04 09:30-09:45 standup``, on local clocks."""
        lines = []
        for title, span in self.bookings(within):
            start = self.hours.offset.local(span.start)
            end = self.hours.offset.local(span.end)
            lines.append(f"{start:%Y-%m-%d %H:%M}-{end:%H:%M} {title}")
        return lines
