import unittest

from larderbox import Cache, Scope


class ScopeTests(unittest.TestCase):
    def setUp(self):
        self.cache = Cache(100)
        self.pages = Scope(self.cache, "pages", ttl=10)
        self.users = Scope(self.cache, "users")

    def test_keys_do_not_meet(self):
        self.pages.put("1", "page", now=0)
        self.users.put("1", "user", now=0)
        self.assertEqual(self.pages.get("1", now=1), "page")
        self.assertEqual(self.users.get("1", now=1), "user")
        self.assertEqual(self.pages.keys(), ["1"])
        self.assertEqual(self.cache.keys(), ["pages:1", "users:1"])

    def test_time_to_live(self):
        self.pages.put("1", "page", now=0)
        self.pages.put("2", "page", now=0, ttl=20)
        self.users.put("1", "user", now=0)
        self.assertEqual(self.cache.sweep(10), 1)
        self.assertEqual(self.pages.keys(), ["2"])
        self.assertEqual(self.users.keys(), ["1"])

    def test_clear(self):
        self.pages.put("1", "page", now=0, tags=("draft",))
        self.users.put("1", "user", now=0, tags=("draft",))
        self.assertEqual(self.pages.clear(), 1)
        self.assertEqual(self.cache.invalidate_tag("draft"), 1)
        self.assertEqual(self.cache.used, 0)

    def test_bad_name(self):
        with self.assertRaises(ValueError):
            Scope(self.cache, "a:b")
