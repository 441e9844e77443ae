"""Instants, wall clocks and the fixed offsets between them.

An instant is an aware ``datetime`` in UTC.  A wall-clock value is a date and a
number of minutes after midnight; it means nothing without an :class:`Offset`.
"""

import re
from datetime import datetime, time, timedelta, timezone

_OFFSET = re.compile(r"([+-])(\d{2}):([0-5]\d)")
_CLOCK = re.compile(r"(\d{2}):([0-5]\d)")
_MIDNIGHT = time(0, 0)


def to_utc(moment):
    """Return an aware datetime as an instant in UTC."""
    if moment.tzinfo is None:
        raise ValueError("a naive datetime is not an instant")
    return moment.astimezone(timezone.utc)


def parse_instant(text):
    """Read ``2024-03-04T08:30+10:00`` (or ``...Z``) as an instant."""
    if text.endswith("Z"):
        text = text[:-1] + "+00:00"
    return to_utc(datetime.fromisoformat(text))


def parse_clock(text):
    """Minutes after midnight of ``HH:MM``; up to 48:00 for overnight spans."""
    match = _CLOCK.fullmatch(text)
    if not match:
        raise ValueError(f"not a clock time: {text!r}")
    minute = int(match.group(1)) * 60 + int(match.group(2))
    if minute > 48 * 60:
        raise ValueError(f"clock time out of range: {text!r}")
    return minute


def format_clock(minute):
    """The inverse of :func:`parse_clock`."""
    return f"{minute // 60:02d}:{minute % 60:02d}"


class Offset:
    """A fixed distance from UTC, written ``+05:30``."""

    def __init__(self, text):
        match = _OFFSET.fullmatch(text)
        if not match:
            raise ValueError(f"not an offset: {text!r}")
        minutes = int(match.group(2)) * 60 + int(match.group(3))
        if minutes > 14 * 60:
            raise ValueError(f"offset out of range: {text!r}")
        self.minutes = -minutes if match.group(1) == "-" else minutes
        self.text = text
        self._zone = timezone(timedelta(minutes=self.minutes))

    def instant(self, day, minute):
        """The instant at which clocks here show ``minute`` on ``day``."""
        start = datetime.combine(day, _MIDNIGHT, tzinfo=self._zone)
        return to_utc(start + timedelta(minutes=minute))

    def local(self, moment):
        """The same instant, carrying the wall clock of this offset."""
        return to_utc(moment).astimezone(self._zone)

    def local_day(self, moment):
        """The calendar day that this offset sees at an instant."""
        return self.local(moment).date()

    def __eq__(self, other):
        return isinstance(other, Offset) and self.minutes == other.minutes

    def __hash__(self):
        return hash(self.minutes)

    def __repr__(self):
        return f"Offset({self.text!r})"
