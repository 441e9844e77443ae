import random
import unittest

from tests.replay import TRACE, parts
from tests.test_cache import CacheTest
from tidecache import Cache, TooLarge


class BudgetTests(CacheTest):
    def test_replacing_counts_once(self):
        self.put("a", 60)
        self.put("a", 10)
        self.assertEqual((self.cache.used, self.cache.stats.evicted), (10, 0))
        self.put("b", 40)
        self.put("a", 60)
        self.assertEqual((self.cache.keys(), self.cache.used, self.cache.stats.evicted), (["b", "a"], 100, 0))

    def test_get_is_a_use(self):
        self.put("a", 60)
        self.put("b", 30)
        self.cache.get("a")
        self.put("c", 30)
        self.assertEqual(self.cache.keys(), ["a", "c"])

    def test_peeking_is_none(self):
        self.put("a", 60)
        self.put("b", 30)
        self.cache.peek("a")
        "a" in self.cache
        self.put("c", 30)
        self.assertEqual(self.cache.keys(), ["b", "c"])

    def test_too_large(self):
        self.put("a", 60)
        self.put("big", 20)
        with self.assertRaises(TooLarge):
            self.put("big", 101)
        self.assertEqual((self.cache.keys(), self.cache.used, self.cache.stats.evicted), (["a"], 60, 0))
        self.put("full", 100)
        self.assertEqual(self.cache.keys(), ["full"])

    def test_tags_and_sizes(self):
        self.put("a", 60, tags=["t"])
        self.assertEqual((self.cache.drop_tag("t"), self.cache.used, self.cache.stats.evicted), (1, 0, 0))

    def test_tags_are_replaced(self):
        self.put("a", 1, tags=["old"])
        self.put("a", 1, tags=["new"])
        self.assertEqual((self.cache.drop_tag("old"), self.cache.keys(), self.cache.drop_tag("new")), (0, ["a"], 1))

    def test_tags_of_evicted_entries(self):
        self.put("a", 60, tags=["t"])
        self.put("b", 60)
        self.put("a", 10)
        self.assertEqual((self.cache.drop_tag("t"), self.cache.keys()), (0, ["b", "a"]))


class LifetimeTests(CacheTest):
    def test_expired_entries_go_first(self):
        self.put("a", 40)
        self.put("b", 40, ttl=5)
        self.now = 6.0
        self.put("c", 40)
        self.assertEqual((self.cache.keys(), self.cache.stats.as_dict()["evicted"], self.cache.stats.expired), (["a", "c"], 0, 1))

    def test_expired_entries_are_not_there(self):
        self.put("a", 40, ttl=5)
        self.put("b", 1)
        self.now = 5.0
        self.assertEqual((len(self.cache), "a" in self.cache, self.cache.keys()), (1, False, ["b"]))
        self.assertEqual([known["key"] for known in self.cache.snapshot()], ["b"])

    def test_get_frees_an_expired_entry(self):
        self.put("a", 40, ttl=5)
        self.now = 5.0
        self.cache.get("a")
        self.cache.get("a")
        self.assertEqual((self.cache.used, self.cache.stats.expired, self.cache.stats.missed), (0, 1, 2))

    def test_dropping_expired_ones(self):
        self.put("a", 40, ttl=5, tags=["t"])
        self.put("b", 40, tags=["t"])
        self.now = 5.0
        self.assertEqual((self.cache.drop("a"), self.cache.drop_tag("t"), self.cache.used), (False, 1, 0))
        self.assertEqual((self.cache.stats.expired, self.cache.stats.evicted), (1, 0))

    def test_snapshots_keep_order_and_lifetimes(self):
        self.put("a", 10, ttl=10)
        self.put("b", 10)
        self.cache.get("a")
        self.now = 4.0
        again = Cache.restore(self.cache.snapshot(), 100, clock=lambda: self.now)
        self.assertEqual(again.keys(), ["b", "a"])
        self.now = 10.0
        self.assertEqual(again.keys(), ["b"])


class ReplayTests(unittest.TestCase):
    def test_the_recorded_calls(self):
        self.assertIsNone(parts(TRACE.read_text().splitlines()))

    def test_random_calls(self):
        dice = random.Random(17)
        for _ in range(30):
            lines = []
            for _ in range(150):
                key, action = dice.choice("abcdefgh"), dice.random()
                if action < 0.4:
                    lines.append("put %s %d" % (key, dice.choice([1, 100, 300, 500, 1001])) + dice.choice(["", " ttl 7", " tag t", " tag u v"]))
                elif action < 0.75:
                    lines.append("get " + key)
                elif action < 0.85:
                    lines.append("wait %d" % dice.randrange(5))
                else:
                    lines.append(dice.choice(["drop " + key, "untag " + dice.choice("tuv")]))
            self.assertIsNone(parts(lines), lines)
