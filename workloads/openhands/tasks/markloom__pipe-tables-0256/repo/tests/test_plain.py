import unittest

from markloom import outline, to_plain


class PlainTests(unittest.TestCase):
    def test_blocks(self):
        source = "# Title\n\nSome *long* text [here](x).\n\n> quote\n\n```\ncode\n```\n\n1. one\n2. two\n"
        self.assertEqual(to_plain(source, 24), "\n".join([
            "Title", "=====", "", "Some long text here (x).", "", "> quote", "", "    code", "", "1. one", "2. two"]))

    def test_paragraphs_are_filled(self):
        self.assertEqual(to_plain("aaa bbb ccc ddd eee fff", 20), "aaa bbb ccc ddd eee\nfff")

    def test_items_are_indented(self):
        self.assertEqual(to_plain("* one two three four five\n\n  more", 20),
                         "* one two three four\n  five\n\n  more")


class OutlineTests(unittest.TestCase):
    def test_headings_in_order(self):
        self.assertEqual(outline("# A *b*\n\ntext\n\n### C\n> # no\n"), [(1, "A b"), (3, "C")])


if __name__ == "__main__":
    unittest.main()
