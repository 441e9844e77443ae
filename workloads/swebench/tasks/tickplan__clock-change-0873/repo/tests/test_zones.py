import unittest
from datetime import datetime

from tickplan import Zone

HARBOUR = Zone.with_changes("Harbour", 60, [("2025-03-30 01:00", 120),
                                            ("2025-10-26 01:00", 60)])


class ZoneTests(unittest.TestCase):
    def test_to_local_in_each_segment(self):
        for instant, wall in [
                (datetime(2025, 1, 1), datetime(2025, 1, 1, 1)),
                (datetime(2025, 3, 30, 0, 59), datetime(2025, 3, 30, 1, 59)),
                (datetime(2025, 3, 30, 1, 1), datetime(2025, 3, 30, 3, 1)),
                (datetime(2025, 12, 1), datetime(2025, 12, 1, 1))]:
            self.assertEqual(HARBOUR.to_local(instant), wall)

    def test_skipped_and_repeated_wall_times(self):
        self.assertEqual(HARBOUR.instants_of(datetime(2025, 3, 30, 2, 30)), [])
        self.assertEqual(HARBOUR.instants_of(datetime(2025, 10, 26, 2, 30)),
                         [datetime(2025, 10, 26, 0, 30),
                          datetime(2025, 10, 26, 1, 30)])

    def test_neighbours(self):
        first, second, third = HARBOUR.segments
        self.assertEqual(HARBOUR.following(first), second)
        self.assertEqual(HARBOUR.preceding(third), second)
        self.assertIsNone(HARBOUR.following(third))
        self.assertIsNone(HARBOUR.preceding(first))

    def test_changes_must_be_in_order(self):
        with self.assertRaises(ValueError):
            Zone.with_changes("Odd", 0, [("2025-02-01 00:00", 60),
                                         ("2025-01-01 00:00", 0)])
