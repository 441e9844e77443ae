import itertools
import unittest

from weftmerge import Conflict, Stable, merge, parse


def text(letters):
    return "".join(letter + "\n" for letter in letters)


class RepeatTests(unittest.TestCase):
    def test_ours_adds_one_more(self):
        result = merge(text("ab"), text("axxb"), text("axb"))
        self.assertEqual(len(result.conflicts), 1)
        self.assertEqual(result.resolve("ours"), text("axxb"))
        self.assertEqual(result.resolve("theirs"), text("axb"))

    def test_theirs_adds_one_more(self):
        result = merge(text("ab"), text("axb"), text("axxb"))
        self.assertEqual(result.resolve("ours"), text("axb"))
        self.assertEqual(result.resolve("theirs"), text("axxb"))

    def test_same_line_at_both_ends(self):
        result = merge(text("ab"), text("axb"), text("axyxb"))
        self.assertEqual(result.resolve("ours"), text("axb"))
        self.assertEqual(result.resolve("theirs"), text("axyxb"))

    def test_repeated_group(self):
        result = merge(text("ab"), text("axyb"), text("axyxyb"))
        self.assertEqual(result.resolve("ours"), text("axyb"))
        self.assertEqual(result.resolve("theirs"), text("axyxyb"))

    def test_no_conflict_is_empty(self):
        for more in range(2, 6):
            result = merge(text("ab"), text("a" + "x" * more + "b"), text("axb"))
            for conflict in result.conflicts:
                self.assertNotEqual(conflict.ours, conflict.theirs)
            self.assertNotIn("ours\n=======\n>>>>>>>", result.text())

    def test_styles_agree(self):
        words = ["".join(w) for n in range(4)
                 for w in itertools.product("xy", repeat=n)]
        for ours, theirs in itertools.product(words, repeat=2):
            args = text("ab"), text("a" + ours + "b"), text("a" + theirs + "b")
            plain, full = merge(*args), merge(*args, style="diff3")
            for side in ("ours", "theirs"):
                self.assertEqual(plain.resolve(side), full.resolve(side), args)
            self.assertEqual(plain.clean, full.clean, args)

    def test_parse_after_trimming(self):
        result = merge(text("ab"), text("axxb"), text("axb"))
        self.assertEqual(parse(result.text()), result.chunks)

    def test_diff3_shows_everything(self):
        result = merge(text("ab"), text("axxb"), text("axb"), style="diff3")
        self.assertEqual(result.chunks, [
            Stable(["a\n"]), Conflict(["x\n", "x\n"], ["x\n"], []),
            Stable(["b\n"])])

    def test_same_repeated_change_is_clean(self):
        result = merge(text("ab"), text("axxb"), text("axxb"))
        self.assertTrue(result.clean)
        self.assertEqual(result.text(), text("axxb"))

    def test_one_side_repeats(self):
        result = merge(text("ab"), text("axxxb"), text("ab"))
        self.assertTrue(result.clean)
        self.assertEqual(result.text(), text("axxxb"))

    def test_nothing_shared(self):
        result = merge(text("ab"), text("axxb"), text("ayb"))
        self.assertEqual(result.conflicts, [Conflict(["x\n", "x\n"], ["y\n"])])
