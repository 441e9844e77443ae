"""The five fields of a cron expression and the values that they allow."""

from dataclasses import dataclass
from typing import Tuple


class CronError(ValueError):
    """An expression that cannot be read."""


@dataclass(frozen=True)
class FieldSpec:
    """Name, bounds and spelled-out values of one field."""

    name: str
    low: int
    high: int
    words: Tuple[str, ...] = ()

    def number(self, text):
        """Read one value: a number within the bounds, or a word."""
        if text.isdigit():
            value = int(text)
        elif text.lower() in self.words:
            value = self.low + self.words.index(text.lower())
        else:
            raise CronError("%s: cannot read %r" % (self.name, text))
        if not self.low <= value <= self.high:
            raise CronError("%s: %d is not within %d-%d"
                            % (self.name, value, self.low, self.high))
        return value


MINUTE = FieldSpec("minute", 0, 59)
HOUR = FieldSpec("hour", 0, 23)
DAY = FieldSpec("day of month", 1, 31)
MONTH = FieldSpec("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun",
                                   "jul", "aug", "sep", "oct", "nov", "dec"))
# 7 is a second name for Sunday; parse_field folds it onto 0.
WEEKDAY = FieldSpec("day of week", 0, 7,
                    ("sun", "mon", "tue", "wed", "thu", "fri", "sat"))


@dataclass(frozen=True)
class Field:
    """The values that one field of one expression allows, in order."""

    values: Tuple[int, ...]
    restricted: bool

    def __contains__(self, value):
        return value in self.values


def parse_field(spec, text):
    """Read a field: a comma list of '*', 'a' or 'a-b', each maybe with '/n'."""
    values = set()
    for part in text.split(","):
        values.update(_parse_part(spec, part))
    if spec is WEEKDAY and 7 in values:
        values = (values - {7}) | {0}
    return Field(tuple(sorted(values)), restricted=not text.startswith("*"))


def _parse_part(spec, part):
    base, slash, step_text = part.partition("/")
    step = 1
    if slash:
        if not step_text.isdigit() or int(step_text) == 0:
            raise CronError("%s: bad step in %r" % (spec.name, part))
        step = int(step_text)
    if base == "*":
        low, high = spec.low, spec.high
    else:
        first, dash, last = base.partition("-")
        low = spec.number(first)
        if dash:
            high = spec.number(last)
        else:
            high = spec.high if slash else low
        if high < low:
            raise CronError("%s: %r runs backwards" % (spec.name, part))
    return range(low, high + 1, step)
