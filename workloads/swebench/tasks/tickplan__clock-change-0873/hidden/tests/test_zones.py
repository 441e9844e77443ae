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


class ChangeInstantTests(unittest.TestCase):
    def test_instant_of_a_change_has_the_new_offset(self):
        for instant, wall in [
                (datetime(2025, 3, 30, 1), datetime(2025, 3, 30, 3)),
                (datetime(2025, 10, 26, 1), datetime(2025, 10, 26, 2))]:
            self.assertEqual(HARBOUR.to_local(instant), wall)

    def test_segment_at_names_a_segment_that_holds_the_instant(self):
        for instant in (datetime(2025, 3, 30, 1), datetime(2025, 10, 26, 1)):
            self.assertIn(instant, HARBOUR.segment_at(instant))

    def test_a_moment_before_a_change_has_the_old_offset(self):
        self.assertEqual(HARBOUR.to_local(datetime(2025, 3, 30, 0, 59, 59)),
                         datetime(2025, 3, 30, 1, 59, 59))

    def test_local_times_come_back_from_their_instants(self):
        for wall in (datetime(2025, 3, 30, 3), datetime(2025, 10, 26, 2)):
            instants = HARBOUR.instants_of(wall)
            self.assertEqual([HARBOUR.to_local(instant) for instant in instants],
                             [wall] * len(instants))

    def test_fixed_zone(self):
        self.assertEqual(Zone.fixed("West", -90).to_local(datetime(2025, 1, 1)),
                         datetime(2024, 12, 31, 22, 30))
