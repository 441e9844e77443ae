import unittest

from stratum.interpolate import escape, expand, references, rewrite


class InterpolateTests(unittest.TestCase):
    def test_references_in_order(self):
        self.assertEqual(references("${a}/${ b.c }/$${no}/$5"), ["a", "b.c"])

    def test_expand_fills_in(self):
        self.assertEqual(expand("<${a}-${b}>", str.upper), "<A-B>")

    def test_dollar_signs(self):
        self.assertEqual(expand("5$ or $$5 or $${a}", str.upper), "5$ or $5 or ${a}")

    def test_rewrite_keeps_everything_else(self):
        self.assertEqual(rewrite("5$ $${a} ${ a }-${b}", {"a": "x", "b": "y.z"}.get),
                         "5$ $${a} ${x}-${y.z}")

    def test_escape_is_undone_by_expand(self):
        for value in ["$", "$$", "${a}", "$${a}", "a$$$b", "plain"]:
            self.assertEqual(expand(escape(value), str.upper), value)
