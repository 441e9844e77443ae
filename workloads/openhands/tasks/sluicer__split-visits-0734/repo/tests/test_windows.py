import unittest

from sluicer import Event, Fixed, Pipeline, Session, Sliding
from tests.helpers import run


class FixedTests(unittest.TestCase):
    def test_events_by_window(self):
        self.assertEqual(run(Fixed(10), [0, 9.9, 10, 25]), ([(0, 10, 2), (10, 20, 1), (20, 30, 1)], []))

    def test_late_events(self):
        self.assertEqual(run(Fixed(10), [0, 25, 5]), ([(0, 10, 1), (20, 30, 1)], [5]))

    def test_allowed_lateness(self):
        self.assertEqual(run(Fixed(10), [0, 25, 5], allowed_lateness=20), ([(0, 10, 2), (20, 30, 1)], []))

    def test_times_before_zero(self):
        self.assertEqual(run(Fixed(10), [-1, 1]), ([(-10, 0, 1), (0, 10, 1)], []))


class SlidingTests(unittest.TestCase):
    def test_an_event_lies_in_several_windows(self):
        self.assertEqual(run(Sliding(10, 5), [7]), ([(0, 10, 1), (5, 15, 1)], []))

    def test_late_for_some_windows_only(self):
        results, late = run(Sliding(10, 5), [7, 12, 8], allowed_lateness=0)
        self.assertEqual((results, late), ([(0, 10, 1), (5, 15, 3), (10, 20, 1)], []))


class SessionTests(unittest.TestCase):
    def test_gaps_part_sessions(self):
        self.assertEqual(run(Session(10), [0, 5, 15, 26]), ([(0, 15, 3), (26, 26, 1)], []))

    def test_an_earlier_event_stretches_a_session(self):
        self.assertEqual(run(Session(10), [5, 0], allowed_lateness=30), ([(0, 5, 2)], []))

    def test_an_event_that_touches_nothing_open_is_late(self):
        self.assertEqual(run(Session(10), [0, 50, 20], allowed_lateness=5), ([(0, 0, 1), (50, 50, 1)], [20]))

    def test_keys_are_apart(self):
        results = []
        pipe = Pipeline(Session(10), emit=results.append)
        pipe.feed_all([Event("a", 0), Event("b", 5), Event("a", 8)])
        pipe.close()
        self.assertEqual([(r.key, r.start, r.end) for r in results], [("b", 5, 5), ("a", 0, 8)])


class ParameterTests(unittest.TestCase):
    def test_sizes_must_make_sense(self):
        for make in (lambda: Fixed(0), lambda: Sliding(10, 11), lambda: Sliding(10, 0), lambda: Session(-1)):
            with self.assertRaises(ValueError):
                make()


if __name__ == "__main__":
    unittest.main()
