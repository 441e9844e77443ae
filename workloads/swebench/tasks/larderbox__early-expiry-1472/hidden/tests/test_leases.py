import unittest

from larderbox import Cache, Scope


class ReplacedTests(unittest.TestCase):
    def setUp(self):
        self.cache = Cache(100)
        self.cache.put("a", "one", now=0, ttl=10, tags=("t",))

    def test_longer_ttl(self):
        self.cache.put("a", "two", now=5, ttl=20)
        self.assertEqual(self.cache.sweep(10), 0)
        self.assertEqual(self.cache.get("a", now=24), "two")
        self.assertEqual(self.cache.sweep(25), 1)
        self.assertEqual(self.cache.used, 0)

    def test_no_ttl(self):
        self.cache.put("a", "two", now=5)
        self.assertEqual(self.cache.sweep(1000), 0)
        self.assertEqual(self.cache.get("a", now=1000), "two")

    def test_deleted_and_put_again(self):
        self.cache.delete("a")
        self.cache.put("a", "two", now=5, ttl=10)
        self.assertEqual(self.cache.sweep(14), 0)
        self.assertEqual(self.cache.sweep(15), 1)

    def test_invalidated_and_put_again(self):
        self.assertEqual(self.cache.invalidate_tag("t"), 1)
        self.cache.put("a", "two", now=5, ttl=10)
        self.assertEqual(self.cache.sweep(10), 0)
        self.assertEqual(self.cache.keys(), ["a"])

    def test_not_replaced(self):
        self.cache.put("b", "two", now=9, ttl=10)
        self.assertEqual(self.cache.sweep(10), 1)
        self.assertEqual(self.cache.keys(), ["b"])


class TouchedTests(unittest.TestCase):
    def setUp(self):
        self.cache = Cache(100)
        self.cache.put("a", "one", now=0, ttl=10)

    def test_survives_an_unrelated_put(self):
        self.cache.touch("a", now=8)
        self.cache.put("b", "two", now=12)
        self.assertEqual(self.cache.get("a", now=13), "one")
        self.assertEqual(self.cache.stats.expirations, 0)

    def test_swept_at_the_new_deadline(self):
        self.cache.touch("a", now=8)
        self.assertEqual(self.cache.sweep(17), 0)
        self.assertEqual(self.cache.sweep(18), 1)
        self.assertEqual((len(self.cache), self.cache.used), (0, 0))
        self.assertEqual(self.cache.stats.expirations, 1)

    def test_touched_many_times(self):
        for now in range(1, 50):
            self.assertTrue(self.cache.touch("a", now=now))
            self.assertEqual(self.cache.sweep(now), 0)
        self.assertEqual(self.cache.sweep(58), 0)
        self.assertEqual(self.cache.sweep(59), 1)

    def test_touched_with_a_shorter_ttl(self):
        self.cache.touch("a", now=1, ttl=2)
        self.assertEqual(self.cache.sweep(2), 0)
        self.assertEqual(self.cache.sweep(3), 1)
        self.assertEqual(self.cache.used, 0)

    def test_touched_out_of_expiry_and_back(self):
        self.cache.touch("a", now=1, ttl=None)
        self.assertEqual(self.cache.sweep(500), 0)
        self.cache.touch("a", now=500, ttl=5)
        self.assertEqual(self.cache.sweep(504), 0)
        self.assertEqual(self.cache.sweep(505), 1)

    def test_touch_gives_a_ttl_to_an_entry_without(self):
        self.cache.put("b", "two", now=0)
        self.cache.touch("b", now=0, ttl=4)
        self.assertEqual(self.cache.sweep(4), 1)
        self.assertEqual(self.cache.keys(), ["a"])

    def test_expired_makes_room_before_anything_is_evicted(self):
        cache = Cache(6)
        cache.put("idle", "xyz", now=0)
        cache.put("a", "one", now=0, ttl=10)
        cache.touch("a", now=5)
        cache.put("b", "two", now=15)
        self.assertEqual(cache.keys(), ["idle", "b"])
        self.assertEqual(cache.stats.evictions, 0)

    def test_not_touched(self):
        self.assertEqual(self.cache.sweep(9), 0)
        self.assertEqual(self.cache.sweep(10), 1)
        self.assertFalse(self.cache.touch("a", now=10))

    def test_read_after_the_deadline(self):
        self.cache.touch("a", now=5)
        self.assertIsNone(self.cache.get("a", now=15))
        self.assertEqual(self.cache.sweep(15), 0)
        self.assertEqual(self.cache.stats.expirations, 1)

    def test_scope(self):
        scope = Scope(self.cache, "s", ttl=10)
        scope.put("x", "one", now=0)
        scope.touch("x", now=9)
        self.cache.sweep(10)
        self.assertEqual(scope.keys(), ["x"])
