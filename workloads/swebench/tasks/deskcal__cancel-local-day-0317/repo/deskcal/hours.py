"""Weekly working hours at a fixed offset."""

from datetime import timedelta

from .clock import parse_clock
from .intervals import Interval, merge


class WorkingHours:
    """Shifts by weekday (Monday is 0), less closed days.

    A shift is a pair of clock times.  One that runs past midnight ends beyond
    24:00: ``("22:00", "30:00")`` ends at six the next morning and belongs to
    the day on which it began, also where that day is closed.
    """

    def __init__(self, offset, shifts, closures=()):
        self.offset = offset
        self.closures = set(closures)
        self._shifts = {}
        for weekday, pairs in shifts.items():
            if weekday not in range(7):
                raise ValueError(f"not a weekday: {weekday!r}")
            parsed = [(parse_clock(a), parse_clock(b)) for a, b in pairs]
            if any(b <= a or a >= 24 * 60 for a, b in parsed):
                raise ValueError(f"bad shift on weekday {weekday}")
            self._shifts[weekday] = parsed

    def close(self, day):
        """Remove all shifts that begin on ``day``."""
        self.closures.add(day)

    def open_spans(self, span):
        """The working time inside ``span``, merged and sorted."""
        day = self.offset.local_day(span.start) - timedelta(days=1)
        last = self.offset.local_day(span.end)
        found = []
        while day <= last:
            if day not in self.closures:
                for begin, end in self._shifts.get(day.weekday(), ()):
                    shift = Interval(
                        self.offset.instant(day, begin),
                        self.offset.instant(day, end),
                    ).clip(span)
                    if shift:
                        found.append(shift)
            day += timedelta(days=1)
        return merge(found)
