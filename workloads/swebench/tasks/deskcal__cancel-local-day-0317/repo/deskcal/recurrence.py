"""Which calendar days a repeating booking falls on."""

from datetime import timedelta

NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Rule:
    """A daily or weekly repetition, in calendar days only.

    ``every`` skips periods, ``weekdays`` picks days inside a week (the first
    day's own weekday by default), and ``until`` (inclusive) or ``count`` ends
    the repetition.  A rule knows nothing of clocks, offsets or cancellations.
    """

    def __init__(self, unit, every=1, weekdays=(), until=None, count=None):
        if unit not in ("daily", "weekly"):
            raise ValueError(f"unknown unit: {unit!r}")
        if every < 1:
            raise ValueError("every must be at least 1")
        if weekdays and unit != "weekly":
            raise ValueError("weekdays need a weekly rule")
        if any(weekday not in range(7) for weekday in weekdays):
            raise ValueError("weekdays run from 0 (Monday) to 6")
        if until is not None and count is not None:
            raise ValueError("give until or count, not both")
        self.unit = unit
        self.every = every
        self.weekdays = tuple(sorted(set(weekdays)))
        self.until = until
        self.count = count

    def days(self, first):
        """Yield the days in order; endless without ``until`` or ``count``."""
        produced = 0
        for day in self._candidates(first):
            if self.until is not None and day > self.until:
                return
            if self.count is not None and produced >= self.count:
                return
            produced += 1
            yield day

    def includes(self, first, day):
        """True where ``day`` is one of the days that begin at ``first``."""
        for candidate in self.days(first):
            if candidate >= day:
                return candidate == day
        return False

    def describe(self):
        """A few words such as ``every 2 weeks on Mon, Thu``."""
        noun = "day" if self.unit == "daily" else "week"
        text = f"every {self.every} {noun}s" if self.every > 1 else f"every {noun}"
        if self.weekdays:
            text += " on " + ", ".join(NAMES[d] for d in self.weekdays)
        if self.until is not None:
            text += f" until {self.until.isoformat()}"
        if self.count is not None:
            text += f", {self.count} times"
        return text

    def _candidates(self, first):
        if self.unit == "daily":
            day = first
            while True:
                yield day
                day += timedelta(days=self.every)
        monday = first - timedelta(days=first.weekday())
        weekdays = self.weekdays or (first.weekday(),)
        while True:
            for weekday in weekdays:
                day = monday + timedelta(days=weekday)
                if day >= first:
                    yield day
            monday += timedelta(weeks=self.every)
