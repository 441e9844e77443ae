import unittest

from tidecache import Cache, Stats, memoize


class CacheTest(unittest.TestCase):
    def setUp(self):
        self.now = 0.0
        self.cache = Cache(100, clock=lambda: self.now)

    def put(self, key, size, **more):
        self.cache.put(key, b"x" * size, **more)


class BasicTests(CacheTest):
    def test_put_and_get(self):
        self.put("a", 3)
        self.assertEqual((self.cache.get("a"), self.cache.get("b"), self.cache.get("b", 7)), (b"xxx", None, 7))
        self.assertEqual((self.cache.peek("a"), "a" in self.cache, len(self.cache), self.cache.used), (b"xxx", True, 1, 3))

    def test_the_oldest_goes(self):
        for key in "abcd":
            self.put(key, 30)
        self.assertEqual((self.cache.keys(), self.cache.used, self.cache.stats.evicted), (["b", "c", "d"], 90, 1))

    def test_lifetimes(self):
        self.put("a", 1, ttl=10)
        self.now = 9.9
        self.assertEqual(self.cache.get("a"), b"x")
        self.now = 10.0
        self.assertEqual((self.cache.get("a"), self.cache.peek("a")), (None, None))

    def test_drop(self):
        self.put("a", 10)
        self.assertEqual((self.cache.drop("a"), self.cache.drop("a"), self.cache.used), (True, False, 0))

    def test_drop_tag(self):
        self.put("a", 1, tags=["t"])
        self.put("b", 1, tags=["t", "u"])
        self.put("c", 1, tags=["u"])
        self.assertEqual((self.cache.drop_tag("t"), self.cache.keys(), self.cache.drop_tag("t")), (2, ["c"], 0))

    def test_parameters(self):
        with self.assertRaises(ValueError):
            Cache(0)
        with self.assertRaises(ValueError):
            self.put("a", 1, ttl=0)

    def test_stats(self):
        self.put("a", 1)
        self.cache.get("a")
        self.cache.get("b")
        self.assertEqual(self.cache.stats.as_dict(), {"hit": 1, "missed": 1, "evicted": 0, "expired": 0})
        self.assertEqual((self.cache.stats.hit_rate, Stats().hit_rate), (0.5, 0.0))

    def test_snapshots(self):
        self.put("a", 1, ttl=10, tags=["t"])
        self.put("b", 2)
        self.now = 4.0
        again = Cache.restore(self.cache.snapshot(), 100, clock=lambda: self.now)
        self.assertEqual((again.keys(), again.used, again.drop_tag("t")), (["a", "b"], 3, 1))


class MemoizeTests(CacheTest):
    def test_results_are_kept(self):
        calls = []

        @memoize(self.cache, ttl=5)
        def double(text, times=2):
            calls.append(text)
            return text * times

        self.assertEqual([double("a"), double("a"), double("a", times=3)], ["aa", "aa", "aaa"])
        self.assertEqual(calls, ["a", "a"])
        self.assertEqual(double.forget(), 2)
        double("a")
        self.assertEqual(len(calls), 3)


if __name__ == "__main__":
    unittest.main()
