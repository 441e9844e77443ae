"""Cancelling by day and by instant, at offsets where UTC has another date."""

import unittest
from datetime import date

from deskcal import Calendar, Offset, Rule, Series, WorkingHours, parse_instant, window

MARCH = window("2024-03-01T00:00Z", "2024-04-01T00:00Z")


def local_days(series):
    return [series.offset.local_day(o.span.start).day for o in series.occurrences(MARCH)]


def daily(start, offset, count=4):
    return Series("handover", date(2024, 3, 4), start, 15, Offset(offset),
                  Rule("daily", count=count))


class CancelDayTests(unittest.TestCase):
    def test_early_morning_in_the_east(self):
        series = daily("08:30", "+10:00")
        series.cancel(date(2024, 3, 5))
        self.assertEqual(local_days(series), [4, 6, 7])

    def test_evening_in_the_west(self):
        series = daily("20:00", "-05:00")
        series.cancel(date(2024, 3, 5))
        self.assertEqual(local_days(series), [4, 6, 7])

    def test_weekly_series(self):
        series = Series("planning", date(2024, 3, 4), "08:30", 45, Offset("+10:00"),
                        Rule("weekly", count=3))
        series.cancel(date(2024, 3, 11))
        self.assertEqual(local_days(series), [4, 18])

    def test_first_and_last_day(self):
        series = daily("00:00", "+00:30")
        series.cancel(date(2024, 3, 4))
        series.cancel(date(2024, 3, 7))
        self.assertEqual(local_days(series), [5, 6])

    def test_same_date_in_utc(self):
        series = daily("14:00", "+10:00")
        series.cancel(date(2024, 3, 5))
        self.assertEqual(local_days(series), [4, 6, 7])

    def test_restore(self):
        series = daily("14:00", "+10:00")
        series.cancel(date(2024, 3, 5))
        series.restore(date(2024, 3, 5))
        self.assertEqual(local_days(series), [4, 5, 6, 7])


class CancelAtTests(unittest.TestCase):
    def test_instant_in_utc(self):
        series = daily("08:30", "+10:00")
        series.cancel_at(parse_instant("2024-03-04T22:30Z"))
        self.assertEqual(local_days(series), [4, 6, 7])

    def test_instant_at_a_third_offset(self):
        series = daily("20:00", "-05:00")
        series.cancel_at(parse_instant("2024-03-06T10:00+09:00"))
        self.assertEqual(local_days(series), [4, 6, 7])

    def test_lists_the_local_day(self):
        series = daily("08:30", "+10:00")
        series.cancel_at(parse_instant("2024-03-05T08:30+10:00"))
        self.assertEqual(series.cancelled_days, [date(2024, 3, 5)])
        self.assertEqual(series.describe(),
                         "handover: every day, 4 times at 08:30 +10:00 except 2024-03-05")

    def test_restore_after_cancel_at(self):
        series = daily("20:00", "-05:00")
        series.cancel_at(parse_instant("2024-03-05T20:00-05:00"))
        series.restore(date(2024, 3, 5))
        self.assertEqual(local_days(series), [4, 5, 6, 7])

    def test_wrong_instant(self):
        series = daily("08:30", "+10:00")
        with self.assertRaises(ValueError):
            series.cancel_at(parse_instant("2024-03-05T08:30Z"))


class FreeTimeTests(unittest.TestCase):
    def test_cancelled_day_becomes_free(self):
        brisbane = Offset("+10:00")
        cal = Calendar(WorkingHours(brisbane, {d: [("08:00", "12:00")] for d in range(5)}))
        series = cal.add(Series("handover", date(2024, 3, 4), "08:00", 30, brisbane,
                                Rule("daily")))
        series.cancel(date(2024, 3, 6))
        minutes = [s.minutes for s in cal.free(window("2024-03-04T00:00+10:00",
                                                      "2024-03-09T00:00+10:00"))]
        self.assertEqual(minutes, [210, 210, 240, 210, 210])
