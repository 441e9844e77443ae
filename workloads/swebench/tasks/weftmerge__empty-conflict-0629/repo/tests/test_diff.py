import unittest

from weftmerge import lines
from weftmerge.diff import Hunk, diff
from weftmerge.regions import regions


class LinesTests(unittest.TestCase):
    def test_split(self):
        self.assertEqual(lines.split("a\r\nb\fc\nd"), ["a\r\n", "b\fc\n", "d"])
        self.assertEqual(lines.split(""), [])

    def test_closed(self):
        self.assertEqual(lines.closed(["a\n", "b"], "\n"), ["a\n", "b\n"])
        self.assertEqual(lines.closed([], "\n"), [])


class DiffTests(unittest.TestCase):
    def test_hunks(self):
        self.assertEqual(diff("abc", "abc"), [])
        self.assertEqual(diff("abc", "axc"), [Hunk(1, 2, 1, 2)])
        self.assertEqual(diff("aa", "aaa"), [Hunk(2, 2, 2, 3)])
        self.assertTrue(diff("ab", "axb")[0].is_insertion)

    def test_applying_gives_the_side(self):
        for base, side in (("abcabba", "cbabac"), ("", "ab"), ("ab", ""),
                           ("xaxbx", "axxb"), ("aba", "ababa")):
            at, out = 0, ""
            for hunk in diff(base, side):
                out += base[at:hunk.base_lo] + side[hunk.side_lo:hunk.side_hi]
                at = hunk.base_hi
            self.assertEqual(out + base[at:], side)


class RegionTests(unittest.TestCase):
    def test_neighbours_meet(self):
        found = list(regions([Hunk(1, 2, 1, 2)], [Hunk(2, 3, 2, 3)]))
        self.assertEqual([(r.lo, r.hi) for r in found], [(1, 3)])

    def test_one_line_between(self):
        found = list(regions([Hunk(1, 2, 1, 2)], [Hunk(3, 4, 3, 4)]))
        self.assertEqual([(r.lo, r.hi) for r in found], [(1, 2), (3, 4)])

    def test_one_inside_the_other(self):
        found = list(regions([Hunk(0, 9, 0, 0)],
                             [Hunk(2, 3, 2, 3), Hunk(6, 6, 6, 7)]))
        self.assertEqual([(r.lo, r.hi) for r in found], [(0, 9)])
