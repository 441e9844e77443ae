"""Free time, clashes and the agenda."""

import unittest
from datetime import date

from deskcal import Calendar, Offset, Rule, Series, WorkingHours, parse_instant, window


class CalendarTests(unittest.TestCase):
    def setUp(self):
        lisbon = Offset("+00:00")
        self.cal = Calendar(WorkingHours(lisbon, {d: [("09:00", "17:00")] for d in range(5)}))
        self.standup = self.cal.add(
            Series("standup", date(2024, 3, 4), "09:30", 15, lisbon, Rule("daily")))
        self.monday = window("2024-03-04T00:00Z", "2024-03-05T00:00Z")

    def test_free_around_a_series(self):
        self.assertEqual([s.minutes for s in self.cal.free(self.monday)], [30, 435])

    def test_free_with_a_minimum(self):
        self.assertEqual([s.minutes for s in self.cal.free(self.monday, minimum=45)], [435])

    def test_cancelled_occurrence_is_free(self):
        self.standup.cancel(date(2024, 3, 4))
        self.assertEqual([s.minutes for s in self.cal.free(self.monday)], [480])

    def test_clashes(self):
        self.cal.book("dentist", parse_instant("2024-03-04T09:40Z"), 60)
        hit = window("2024-03-04T09:44Z", "2024-03-04T10:00Z")
        self.assertEqual(self.cal.clashes(hit), ["standup", "dentist"])

    def test_agenda_uses_local_clocks(self):
        self.cal.book("call", parse_instant("2024-03-04T16:00+05:30"), 30)
        self.assertEqual(self.cal.agenda(self.monday), [
            "2024-03-04 09:30-09:45 standup",
            "2024-03-04 10:30-11:00 call",
        ])
