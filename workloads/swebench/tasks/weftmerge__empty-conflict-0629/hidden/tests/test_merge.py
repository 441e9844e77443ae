import unittest

from weftmerge import Conflict, MarkerError, Stable, merge, parse, render


def text(letters):
    return "".join(letter + "\n" for letter in letters)


class CleanTests(unittest.TestCase):
    def check(self, base, ours, theirs, wanted):
        result = merge(text(base), text(ours), text(theirs))
        self.assertTrue(result.clean)
        self.assertEqual(result.text(), text(wanted))

    def test_one_side_only(self):
        self.check("abc", "abc", "axc", "axc")
        self.check("abc", "ac", "abc", "ac")

    def test_both_sides_apart(self):
        self.check("abcde", "Abcde", "abcdE", "AbcdE")

    def test_same_change(self):
        self.check("abc", "abxc", "abxc", "abxc")

    def test_open_last_line(self):
        result = merge("a\nb\nc", "A\nb\nc", "a\nb\nC")
        self.assertEqual(result.text(), "A\nb\nC")


class ConflictTests(unittest.TestCase):
    def test_markers(self):
        result = merge(text("abc"), text("axc"), text("ayc"))
        self.assertEqual(result.text(), "a\n<<<<<<< ours\nx\n=======\ny\n"
                                        ">>>>>>> theirs\nc\n")

    def test_diff3(self):
        result = merge(text("abc"), text("axc"), text("ayc"), style="diff3",
                       labels=("L", "R"))
        self.assertEqual(result.text(), "a\n<<<<<<< L\nx\n||||||| base\nb\n"
                                        "=======\ny\n>>>>>>> R\nc\n")

    def test_shared_lines_move_out(self):
        result = merge(text("ab"), text("apxqb"), text("apyqb"))
        self.assertEqual(result.chunks, [
            Stable(["a\n", "p\n"]), Conflict(["x\n"], ["y\n"]),
            Stable(["q\n", "b\n"])])

    def test_edit_and_deletion(self):
        result = merge(text("abcde"), text("ae"), text("abCde"))
        self.assertEqual(result.resolve("ours"), text("ae"))
        self.assertEqual(result.resolve("theirs"), text("abCde"))

    def test_open_lines_get_closed(self):
        result = merge("a", "b", "c")
        self.assertEqual(result.text(), "<<<<<<< ours\nb\n=======\nc\n"
                                        ">>>>>>> theirs\n")
        self.assertEqual(result.resolve("union"), "b\nc")

    def test_crlf(self):
        result = merge("a\r\n", "b\r\n", "c\r\n")
        self.assertIn("=======\r\n", result.text())


class ParseTests(unittest.TestCase):
    def test_inverse(self):
        for style in ("merge", "diff3"):
            result = merge(text("abcde"), text("abxde"), text("abyze"), style)
            self.assertEqual(parse(result.text()), result.chunks)

    def test_longer_markers(self):
        chunks = [Stable(["======= \n"]), Conflict(["<<<<<<< x\n"], ["b\n"])]
        self.assertIn("<<<<<<<< ours\n", render(chunks))
        self.assertEqual(parse(render(chunks)), chunks)

    def test_errors(self):
        for bad in ("<<<<<<< a\nb\n", "<<<<<<< a\n>>>>>>> b\n",
                    "<<<<<<< a\n=======\n|||||||\n>>>>>>> b\n"):
            with self.assertRaises(MarkerError):
                parse(bad)
