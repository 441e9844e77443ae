"""Rules and repeating bookings."""

import unittest
from datetime import date

from deskcal import Offset, Rule, Series, parse_instant, window

MARCH = window("2024-03-01T00:00Z", "2024-04-01T00:00Z")


def local_days(series, within=MARCH):
    return [series.offset.local_day(o.span.start).day for o in series.occurrences(within)]


class RuleTests(unittest.TestCase):
    def test_weekdays_before_the_first_day_are_left_out(self):
        rule = Rule("weekly", weekdays=(0, 3), count=3)
        days = list(rule.days(date(2024, 3, 6)))
        self.assertEqual(days, [date(2024, 3, 7), date(2024, 3, 11), date(2024, 3, 14)])

    def test_until_is_inclusive(self):
        days = list(Rule("daily", every=2, until=date(2024, 3, 8)).days(date(2024, 3, 4)))
        self.assertEqual([d.day for d in days], [4, 6, 8])


class CancelTests(unittest.TestCase):
    def test_cancel_leaves_the_other_days(self):
        series = Series("review", date(2024, 3, 4), "14:00", 60, Offset("+01:00"),
                        Rule("daily", count=4))
        series.cancel(date(2024, 3, 5))
        self.assertEqual(local_days(series), [4, 6, 7])

    def test_cancel_at_an_instant(self):
        series = Series("handover", date(2024, 3, 4), "08:30", 15, Offset("+10:00"),
                        Rule("daily", count=4))
        series.cancel_at(parse_instant("2024-03-04T22:30Z"))
        self.assertEqual(local_days(series), [4, 6, 7])

    def test_cancel_needs_an_occurrence(self):
        series = Series("review", date(2024, 3, 4), "14:00", 60, Offset("+01:00"),
                        Rule("weekly"))
        with self.assertRaises(ValueError):
            series.cancel(date(2024, 3, 5))
        with self.assertRaises(ValueError):
            series.cancel_at(parse_instant("2024-03-04T14:00Z"))

    def test_describe_lists_cancelled_days(self):
        series = Series("review", date(2024, 3, 4), "14:00", 60, Offset("+01:00"),
                        Rule("weekly", every=2))
        series.cancel(date(2024, 3, 18))
        self.assertEqual(series.describe(),
                         "review: every 2 weeks at 14:00 +01:00 except 2024-03-18")
