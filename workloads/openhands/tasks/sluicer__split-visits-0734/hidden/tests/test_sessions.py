import itertools
import random
import unittest

from sluicer import AGGREGATES, Event, Pipeline, Session
from tests.helpers import run


class MergingTests(unittest.TestCase):
    def test_an_event_between_two_sessions_joins_them(self):
        self.assertEqual(run(Session(10), [0, 20, 10, 31], allowed_lateness=30), ([(0, 20, 3), (31, 31, 1)], []))

    def test_every_order_gives_the_same(self):
        for times in itertools.permutations([0, 10, 20, 35, 41]):
            self.assertEqual(run(Session(10), times, allowed_lateness=100)[0], [(0, 20, 3), (35, 41, 2)], times)

    def test_only_touched_sessions_are_joined(self):
        self.assertEqual(run(Session(10), [0, 40, 20, 60, 30], allowed_lateness=100)[0],
                         [(0, 0, 1), (20, 40, 3), (60, 60, 1)])

    def test_other_keys_are_left_alone(self):
        results = []
        pipe = Pipeline(Session(10), allowed_lateness=50, emit=results.append)
        pipe.feed_all([Event("a", 0), Event("b", 0), Event("a", 20), Event("b", 20), Event("a", 10)])
        pipe.close()
        self.assertEqual(sorted((r.key, r.start, r.end, r.count) for r in results),
                         [("a", 0, 20, 3), ("b", 0, 0, 1), ("b", 20, 20, 1)])


class LatenessTests(unittest.TestCase):
    def test_the_middle_of_an_open_session_is_not_late(self):
        self.assertEqual(run(Session(10), [0, 8, 16, 24, 3], allowed_lateness=5), ([(0, 24, 5)], []))

    def test_an_early_edge_of_an_open_session_is_not_late(self):
        self.assertEqual(run(Session(10), [20, 28, 36, 12], allowed_lateness=5), ([(12, 36, 4)], []))

    def test_alone_and_closed_is_late(self):
        self.assertEqual(run(Session(10), [0, 50, 20], allowed_lateness=5), ([(0, 0, 1), (50, 50, 1)], [20]))

    def test_alone_and_open_is_not_late(self):
        self.assertEqual(run(Session(10), [50, 36], allowed_lateness=5)[1], [])

    def test_an_emitted_session_does_not_come_back(self):
        results, late = run(Session(10), [0, 30, 5], allowed_lateness=5)
        self.assertEqual((results, late), ([(0, 0, 1), (30, 30, 1)], [5]))


class AggregateTests(unittest.TestCase):
    def values(self, events):
        results = []
        pipe = Pipeline(Session(10), AGGREGATES, allowed_lateness=1000, emit=results.append)
        pipe.feed_all(events)
        pipe.close()
        return [(r.start, r.end, r.count, r.values) for r in results]

    def test_all_aggregates_of_joined_sessions(self):
        ((start, end, count, values),) = self.values([Event("k", 20, 8.0), Event("k", 0, 1.0), Event("k", 10, 6.0)])
        self.assertEqual((start, end, count), (0, 20, 3))
        self.assertEqual(values, {"total": 15.0, "mean": 5.0, "smallest": 1.0, "largest": 8.0,
                                  "first": 1.0, "last": 8.0})

    def test_equal_times_go_by_arrival_after_joining(self):
        ((_s, _e, _c, values),) = self.values(
            [Event("k", 20, 3), Event("k", 20, 4), Event("k", 0, 1), Event("k", 0, 2), Event("k", 10, 9)])
        self.assertEqual((values["first"], values["last"]), (1, 4))

    def test_random_orders_agree(self):
        dice = random.Random(11)
        for _ in range(40):
            events = [Event("k", dice.randrange(0, 400), float(number)) for number in range(25)]
            ordered = self.values(sorted(events, key=lambda event: event.at))
            dice.shuffle(events)
            shuffled = self.values(events)
            for one, other in zip(ordered, shuffled):
                self.assertEqual(one[:3], other[:3])
                for name in ("total", "mean", "smallest", "largest"):
                    self.assertAlmostEqual(one[3][name], other[3][name])
            self.assertEqual(len(ordered), len(shuffled))
