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


class DollarTests(unittest.TestCase):
    def test_a_dollar_in_front_of_a_reference(self):
        self.assertEqual(expand("$$${a}", str.upper), "$A")
        self.assertEqual(expand("$$$$${a}", str.upper), "$$A")

    def test_an_even_number_of_dollars_in_front_of_braces(self):
        self.assertEqual(expand("$${a}", str.upper), "${a}")
        self.assertEqual(expand("$$$${a}", str.upper), "$${a}")

    def test_what_is_filled_in_is_final(self):
        for value in ["$$", "a$$b", "$$$$", "${a}", "$${a}"]:
            self.assertEqual(expand("<${x}>", lambda name: value), "<%s>" % value)

    def test_what_is_filled_in_keeps_single_dollars(self):
        self.assertEqual(expand("${x}", lambda name: "5$ "), "5$ ")

    def test_references_after_dollars(self):
        self.assertEqual(references("$$${a} $$${b}"), ["a", "b"])
        self.assertEqual(references("$$$${a}"), [])

    def test_rewrite_after_dollars(self):
        self.assertEqual(rewrite("$$${a} $$ $${a}", lambda name: "b"),
                         "$$${b} $$ $${a}")
