import unittest

from larderbox import Cache, TimeRanBackwards, TooLarge


class BasicTests(unittest.TestCase):
    def test_put_and_get(self):
        cache = Cache(100)
        cache.put("a", "xyz", now=0)
        self.assertEqual(cache.get("a", now=1), "xyz")
        self.assertIsNone(cache.get("b", now=1))
        self.assertEqual((cache.stats.hits, cache.stats.misses), (1, 1))
        self.assertEqual(cache.used, 3)

    def test_replacing_keeps_the_books(self):
        cache = Cache(100)
        cache.put("a", "xyz", now=0, tags=("old",))
        cache.put("a", "longer", now=0, tags=("new",))
        self.assertEqual((len(cache), cache.used), (1, 6))
        self.assertEqual(cache.invalidate_tag("old"), 0)
        self.assertEqual(cache.invalidate_tag("new"), 1)
        self.assertEqual((len(cache), cache.used), (0, 0))

    def test_get_or_load(self):
        cache = Cache(100)
        calls = []
        load = lambda key: calls.append(key) or key.upper()
        self.assertEqual(cache.get_or_load("a", 0, load, ttl=5), "A")
        self.assertEqual(cache.get_or_load("a", 4, load, ttl=5), "A")
        self.assertEqual(cache.get_or_load("a", 5, load, ttl=5), "A")
        self.assertEqual(calls, ["a", "a"])

    def test_bad_arguments(self):
        cache = Cache(10)
        with self.assertRaises(TooLarge):
            cache.put("a", "x" * 11, now=0)
        with self.assertRaises(ValueError):
            cache.put("a", "x", now=0, ttl=0)
        cache.get("a", now=5)
        with self.assertRaises(TimeRanBackwards):
            cache.get("a", now=4)


class EvictionTests(unittest.TestCase):
    def test_least_recently_used_goes_first(self):
        cache = Cache(9)
        for key in "abc":
            cache.put(key, "xyz", now=0)
        cache.get("a", now=1)
        cache.put("d", "xyz", now=2)
        self.assertEqual(cache.keys(), ["c", "a", "d"])
        self.assertEqual(cache.stats.evictions, 1)

    def test_expired_go_before_old(self):
        cache = Cache(9)
        cache.put("old", "xyz", now=0)
        cache.put("short", "xyz", now=0, ttl=5)
        cache.put("c", "xyz", now=0)
        cache.put("d", "xyz", now=5)
        self.assertEqual(cache.keys(), ["old", "c", "d"])
        self.assertEqual(cache.stats.evictions, 0)
        self.assertEqual(cache.stats.expirations, 1)

    def test_resize(self):
        cache = Cache(9)
        for key in "abc":
            cache.put(key, "xyz", now=0)
        cache.resize(4, now=0)
        self.assertEqual(cache.keys(), ["c"])


class ExpiryTests(unittest.TestCase):
    def test_gone_at_the_deadline(self):
        cache = Cache(100, default_ttl=10)
        cache.put("a", "x", now=0)
        self.assertEqual(cache.get("a", now=9), "x")
        self.assertIsNone(cache.get("a", now=10))
        self.assertEqual(cache.used, 0)

    def test_sweep(self):
        cache = Cache(100)
        cache.put("a", "x", now=0, ttl=5, tags=("t",))
        cache.put("b", "x", now=0, ttl=6)
        cache.put("c", "x", now=0)
        self.assertEqual(cache.sweep(5), 1)
        self.assertEqual(cache.keys(), ["b", "c"])
        self.assertEqual(cache.invalidate_tag("t"), 0)

    def test_touch(self):
        cache = Cache(100)
        cache.put("a", "x", now=0, ttl=10)
        self.assertTrue(cache.touch("a", now=6))
        self.assertEqual(cache.remaining("a", now=6), 10)
        self.assertEqual(cache.get("a", now=12), "x")
        self.assertTrue(cache.touch("a", now=12, ttl=None))
        self.assertIsNone(cache.remaining("a", now=12))
        self.assertFalse(cache.touch("b", now=12))

    def test_shorter_replacement(self):
        cache = Cache(100)
        cache.put("a", "x", now=0, ttl=50)
        cache.put("a", "y", now=0, ttl=5)
        self.assertEqual(cache.sweep(5), 1)
        self.assertEqual(cache.sweep(50), 0)
