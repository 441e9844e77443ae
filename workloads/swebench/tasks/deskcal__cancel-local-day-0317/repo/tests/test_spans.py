"""Intervals, offsets and working hours."""

import unittest
from datetime import date

from deskcal import Offset, WorkingHours, parse_instant, window
from deskcal.intervals import merge, subtract


class IntervalTests(unittest.TestCase):
    def test_merge_joins_touching_spans(self):
        a = window("2024-03-04T09:00Z", "2024-03-04T10:00Z")
        b = window("2024-03-04T10:00Z", "2024-03-04T11:00Z")
        self.assertEqual(merge([b, a]), [window("2024-03-04T09:00Z", "2024-03-04T11:00Z")])

    def test_subtract_cuts_a_hole(self):
        day = window("2024-03-04T09:00Z", "2024-03-04T17:00Z")
        hole = window("2024-03-04T12:00Z", "2024-03-04T13:00Z")
        self.assertEqual([s.minutes for s in subtract([day], [hole])], [180, 240])


class OffsetTests(unittest.TestCase):
    def test_local_day_differs_from_the_utc_day(self):
        moment = parse_instant("2024-03-04T22:30Z")
        self.assertEqual(Offset("+10:00").local_day(moment), date(2024, 3, 5))
        self.assertEqual(Offset("-03:30").local_day(moment), date(2024, 3, 4))

    def test_bad_offset(self):
        with self.assertRaises(ValueError):
            Offset("+15:00")


class HoursTests(unittest.TestCase):
    def test_closure_is_a_local_day(self):
        hours = WorkingHours(Offset("+10:00"), {0: [("08:00", "16:00")]})
        hours.close(date(2024, 3, 4))
        self.assertEqual(hours.open_spans(window("2024-03-03T00:00Z", "2024-03-05T00:00Z")), [])

    def test_overnight_shift_reaches_into_the_window(self):
        hours = WorkingHours(Offset("+00:00"), {0: [("22:00", "30:00")]})
        spans = hours.open_spans(window("2024-03-05T00:00Z", "2024-03-06T00:00Z"))
        self.assertEqual([s.minutes for s in spans], [360])
