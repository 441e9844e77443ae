import itertools
import random
import unittest
from pathlib import Path

from turnpike import Map, NoRoute, Planner
from turnpike.geometry import is_left

TOWN = (Path(__file__).parent / "town.txt").read_text()


def way(text, *arguments, **options):
    return "".join(Planner(Map.read(text)).route(*arguments, **options).junctions)


class BanTests(unittest.TestCase):
    def test_round_a_ban(self):
        route = Planner(Map.read(TOWN)).route("a", "e")
        self.assertEqual((route.junctions, route.metres), (list("abcde"), 350.0))

    def test_the_last_turn(self):
        self.assertEqual(way(TOWN, "a", "d"), "abcd")

    def test_one_direction_only(self):
        self.assertEqual(way(TOWN, "d", "a"), "dba")

    def test_no_way_but_a_banned_one(self):
        with self.assertRaises(NoRoute):
            way("road a b 1 oneway\nroad b c 1 oneway\nban a b c", "a", "c")

    def test_the_first_step_is_free(self):
        self.assertEqual(way("road a b 1\nroad b c 1\nban a b c", "b", "c"), "bc")

    def test_a_longer_way_to_the_same_junction(self):
        text = "road a b 1\nroad a x 5\nroad x b 5\nroad b c 1\nroad c d 1 oneway\nban a b c"
        self.assertEqual(way(text, "a", "d"), "axbcd")

    def test_a_junction_may_be_passed_twice(self):
        text = "road a b 1 oneway\nroad b c 1 oneway\nroad c e 1 oneway\nroad e b 1 oneway\nroad b d 1 oneway\nban a b d"
        self.assertEqual(way(text, "a", "d"), "abcebd")


class BackTests(unittest.TestCase):
    def test_not_in_the_middle(self):
        self.assertEqual(way("road a b 1\nroad b c 1\nroad b d 1\nroad c d 9\nban a b d", "a", "d"), "abcd")

    def test_at_dead_ends(self):
        self.assertEqual(way("road a b 1\nroad b c 1\nroad b d 1\nban a b d", "a", "d"), "abcbd")

    def test_a_ban_at_a_dead_end(self):
        with self.assertRaises(NoRoute):
            way("road a b 1\nroad b c 1\nroad b d 1\nban a b d\nban b c b", "a", "d")


class ViaTests(unittest.TestCase):
    def test_bans_hold(self):
        self.assertEqual(way(TOWN, "a", "d", via=["b"]), "abcd")
        self.assertEqual(way(TOWN, "a", "e", via=["c"]), "abcde")

    def test_back_is_allowed(self):
        self.assertEqual(way("road a b 1\nroad b c 1\nroad c d 1", "a", "a", via=["b"]), "aba")
        self.assertEqual(way("road a b 1\nroad b c 1\nroad c a 9", "a", "a", via=["b"]), "aba")

    def test_back_is_banned(self):
        self.assertEqual(way("road a b 1\nroad b c 1\nroad c a 9\nban a b a", "a", "a", via=["b"]), "abca")

    def test_a_longer_way_to_a_stop_may_pay(self):
        text = "road a s 1 oneway\nroad a x 2 oneway\nroad x s 2 oneway\nroad s d 1 oneway\nroad s y 50 oneway\nroad y d 50 oneway\nban a s d"
        self.assertEqual(way(text, "a", "d", via=["s"]), "axsd")

    def test_stops_that_are_met_at_once(self):
        self.assertEqual(way(TOWN, "a", "b", via=["a", "b", "b"]), "ab")
        self.assertEqual(way(TOWN, "a", "a"), "a")

    def test_order_counts(self):
        self.assertEqual(way("road a b 1\nroad b c 1", "a", "c", via=["c", "b"]), "abcbc")


class LeftTests(unittest.TestCase):
    def test_every_heading(self):
        around = [(1, 0), (0, 1), (-1, 0), (0, -1)]
        for number, (dx, dy) in enumerate(around):
            start = (-dx, -dy)
            left, right = around[(number + 1) % 4], around[(number - 1) % 4]
            self.assertEqual([is_left(start, (0, 0), to) for to in (left, right, (dx, dy), start)], [True, False, False, False])

    def test_slanting_ones(self):
        self.assertTrue(is_left((0, 0), (2, 1), (3, 3)))
        self.assertFalse(is_left((0, 0), (2, 1), (4, 1)))

    def test_penalties(self):
        square = "road a b 100\nroad b c 100\nat a 0 0\nat b 0 -100\nat c -100 -100"
        self.assertAlmostEqual(Planner(Map.read(square)).route("a", "c", by="time").cost, 14.4)
        self.assertAlmostEqual(Planner(Map.read(square)).route("c", "a", by="time").cost, 34.4)


class RandomTests(unittest.TestCase):
    def test_as_good_as_trying_everything(self):
        dice = random.Random(3)
        for _ in range(40):
            names = "abcde"
            roads = {}
            for one, other in itertools.combinations(names, 2):
                if dice.random() < 0.6:
                    roads[one, other] = dice.randrange(1, 9)
            lines = ["road %s %s %d" % (one, other, metres) for (one, other), metres in roads.items()]
            bans = {(a, b, c) for a, b, c in itertools.permutations(names, 3) if dice.random() < 0.3}
            lines += ["ban %s %s %s" % ban for ban in bans]
            town = Map.read("\n".join(lines + ["road a b 9"]))
            ends = {j: [road.end for road in town.roads_from(j)] for j in town.junctions()}
            best, pending = None, [(0.0, ["a"])]
            while pending:
                cost, path = pending.pop()
                if "e" == path[-1]:
                    best = cost if best is None else min(best, cost)
                    continue
                for end in ends[path[-1]]:
                    back = len(path) > 1 and end == path[-2]
                    if len(path) > 1 and (tuple(path[-2:]) + (end,) in bans or (back and len(ends[path[-1]]) > 1)):
                        continue
                    if len(path) < 8:
                        pending.append((cost + town.road_between(path[-1], end).metres, path + [end]))
            try:
                found = Planner(town).route("a", "e").metres if "e" in town else None
            except NoRoute:
                found = None
            if best is None:
                continue
            self.assertEqual(found, best, lines)
