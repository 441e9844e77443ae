"""Cron expressions: which wall times match, and the nearest that do."""

from calendar import monthrange
from datetime import date, datetime, time, timedelta

from .fields import DAY, HOUR, MINUTE, MONTH, WEEKDAY, CronError, parse_field

MINUTE_STEP = timedelta(minutes=1)
# 29 February may be eight years away (1896 to 1904), never more.
HORIZON_MONTHS = 8 * 12 + 1

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}


class CronExpr:
    """Five fields: minute, hour, day of month, month, day of week."""

    def __init__(self, text):
        self.text = text.strip()
        parts = ALIASES.get(self.text, self.text).split()
        if len(parts) != 5:
            raise CronError("expected five fields, not %d: %r"
                            % (len(parts), text))
        specs = (MINUTE, HOUR, DAY, MONTH, WEEKDAY)
        (self.minutes, self.hours, self.days, self.months,
         self.weekdays) = map(parse_field, specs, parts)

    def __repr__(self):
        return "CronExpr(%r)" % self.text

    def matches_day(self, day):
        """Whether the job runs at all on that date."""
        if day.month not in self.months:
            return False
        by_day = day.day in self.days
        by_weekday = day.isoweekday() % 7 in self.weekdays
        if self.days.restricted and self.weekdays.restricted:
            return by_day or by_weekday
        return by_day and by_weekday

    def matches(self, wall):
        """Whether the job runs in the minute of that wall time."""
        return (wall.minute in self.minutes and wall.hour in self.hours
                and self.matches_day(wall.date()))

    def next_after(self, wall):
        """The first matching minute later than `wall`, or None."""
        return self.first_from(_floor(wall) + MINUTE_STEP)

    def first_from(self, wall):
        """The first matching minute at or after `wall`, or None."""
        wall = _ceil(wall)
        for day in self._dates(wall.date(), 1):
            earliest = wall.time() if day == wall.date() else time.min
            for moment in self._times():
                if moment >= earliest:
                    return datetime.combine(day, moment)
        return None

    def last_before(self, wall):
        """The last matching minute earlier than `wall`, or None."""
        wall = _ceil(wall) - MINUTE_STEP
        for day in self._dates(wall.date(), -1):
            latest = wall.time() if day == wall.date() else time.max
            for moment in reversed(self._times()):
                if moment <= latest:
                    return datetime.combine(day, moment)
        return None

    def _times(self):
        return [time(hour, minute) for hour in self.hours.values
                for minute in self.minutes.values]

    def _dates(self, start, step):
        """Matching dates from `start` on, forwards or backwards."""
        year, month = start.year, start.month
        for _ in range(HORIZON_MONTHS):
            if month in self.months:
                days = range(1, monthrange(year, month)[1] + 1)
                for number in days[::step]:
                    day = date(year, month, number)
                    if (day - start).days * step >= 0 and self.matches_day(day):
                        yield day
            month += step
            if not 1 <= month <= 12:
                year, month = year + step, 1 if step > 0 else 12


def _floor(moment):
    return moment.replace(second=0, microsecond=0)


def _ceil(moment):
    floor = _floor(moment)
    return floor if floor == moment else floor + MINUTE_STEP
