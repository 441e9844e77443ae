import unittest

from larderbox import Stats
from larderbox.agenda import Agenda
from larderbox.entry import Entry
from larderbox.sizing import measure
from larderbox.tags import TagIndex


class AgendaTests(unittest.TestCase):
    def test_order(self):
        agenda = Agenda()
        for deadline, key in ((5, "b"), (3, "a"), (5, "c"), (None, "d")):
            agenda.note(deadline, key)
        self.assertEqual(len(agenda), 3)
        self.assertEqual(agenda.next_deadline(), 3)
        agenda.take_due(2)
        self.assertEqual(len(agenda), 3)
        agenda.take_due(5)
        self.assertEqual(len(agenda), 0)
        self.assertIsNone(agenda.next_deadline())


class EntryTests(unittest.TestCase):
    def test_lease(self):
        entry = Entry("k", "v", 1)
        self.assertFalse(entry.expired(10 ** 9))
        entry.renew(10, now=5)
        self.assertFalse(entry.expired(14))
        self.assertTrue(entry.expired(15))
        self.assertEqual(entry.remaining(12), 3)


class TagTests(unittest.TestCase):
    def test_forgets_empty_tags(self):
        index = TagIndex()
        index.link("a", ("x", "y"))
        index.link("b", ("x",))
        self.assertEqual(index.keys("x"), ["a", "b"])
        index.unlink("a", ("x", "y"))
        self.assertNotIn("y", index)
        self.assertEqual(len(index), 1)


class StatsTests(unittest.TestCase):
    def test_difference_and_ratio(self):
        before = Stats(hits=1, misses=1)
        after = Stats(hits=4, misses=2, evictions=1)
        self.assertEqual(after - before, Stats(hits=3, misses=1, evictions=1))
        self.assertEqual((after - before).hit_ratio, 0.75)
        self.assertEqual(Stats().hit_ratio, 0.0)


class SizingTests(unittest.TestCase):
    def test_measure(self):
        self.assertEqual(measure("\u20ac"), 3)
        self.assertEqual(measure(b"abc"), 3)
        self.assertEqual(measure([1, "ab"]), 26)
        self.assertEqual(measure({"a": None}), 18)
