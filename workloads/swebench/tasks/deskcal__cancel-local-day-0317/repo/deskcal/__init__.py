"""Calendar availability with fixed UTC offsets."""

from .calendar import Calendar
from .clock import Offset, parse_instant, to_utc
from .hours import WorkingHours
from .intervals import Interval, window
from .recurrence import Rule
from .series import Series

__all__ = [
    "Calendar",
    "Interval",
    "Offset",
    "Rule",
    "Series",
    "WorkingHours",
    "parse_instant",
    "to_utc",
    "window",
]
