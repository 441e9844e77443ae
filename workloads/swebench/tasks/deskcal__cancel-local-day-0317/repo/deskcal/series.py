"""Repeating bookings: a rule, a wall-clock time and some cancelled days."""

from collections import namedtuple

from .clock import format_clock, parse_clock, to_utc
from .intervals import Interval

Occurrence = namedtuple("Occurrence", "title span")


class Series:
    """A booking of ``minutes`` at ``start`` on each day of ``rule``."""

    def __init__(self, title, first_day, start, minutes, offset, rule):
        if minutes < 1:
            raise ValueError("a booking must last at least a minute")
        self.title = title
        self.first_day = first_day
        self.start_minute = parse_clock(start)
        if self.start_minute >= 24 * 60:
            raise ValueError("a booking must start before midnight")
        self.minutes = minutes
        self.offset = offset
        self.rule = rule
        self._cancelled = set()

    @property
    def cancelled_days(self):
        """The cancelled days, oldest first."""
        return sorted(self._cancelled)

    def span_on(self, day):
        """The span of the occurrence on ``day``, cancelled or not."""
        if not self.rule.includes(self.first_day, day):
            raise ValueError(f"{self.title} does not take place on {day}")
        return self._span(day)

    def occurrences(self, within):
        """Yield the occurrences that overlap ``within``, oldest first."""
        for day in self.rule.days(self.first_day):
            span = self._span(day)
            if span.start >= within.end:
                return
            if not span.overlaps(within):
                continue
            if span.start.date() not in self._cancelled:
                yield Occurrence(self.title, span)

    def cancel(self, day):
        """Cancel the occurrence on ``day``."""
        self.span_on(day)
        self._cancelled.add(day)

    def cancel_at(self, moment):
        """Cancel the occurrence that begins at an instant."""
        start = to_utc(moment)
        probe = Interval.lasting(start, 1)
        if not any(o.span.start == start for o in self.occurrences(probe)):
            raise ValueError(f"{self.title} does not begin at {start.isoformat()}")
        self._cancelled.add(start.date())

    def restore(self, day):
        """Undo the cancellation of ``day``, if there was one."""
        self._cancelled.discard(day)

    def describe(self):
        """One line for people."""
        clock = format_clock(self.start_minute)
        text = f"{self.title}: {self.rule.describe()} at {clock} {self.offset.text}"
        if self._cancelled:
            text += " except " + ", ".join(d.isoformat() for d in self.cancelled_days)
        return text

    def _span(self, day):
        start = self.offset.instant(day, self.start_minute)
        return Interval.lasting(start, self.minutes)
