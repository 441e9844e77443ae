"""The standard form of a line."""

import unittest

from gaugelang import format_source, parse


class FormatTests(unittest.TestCase):
    def test_needless_parentheses_go(self):
        for text, wanted in (
            ("(a*b)+(c)", "a * b + c"),
            ("a-(b-c)", "a - (b - c)"),
            ("2^(-3)", "2^-3"),
            ("(a^b)^c", "(a^b)^c"),
            ("a^(b^c)", "a^b^c"),
            ("-(a^2)", "-a^2"),
            ("(90 km)/(2 h)", "90 km / 2 h"),
            ("y=(x+1.50 m)to cm", "y = x + 1.5 m to cm"),
        ):
            with self.subTest(text=text):
                self.assertEqual(format_source(text), wanted)

    def test_reading_again_gives_the_same_tree(self):
        for text in ("(3 m)^2", "3 m^2", "(-x)^2", "(-3)^2", "-(x + 1)", "-(5 degC)",
                     "-5 degC", "x - -2", "(a / b) / c", "a / (b / c)", "2^(a*b)",
                     "max(-1, (2))", "50 s^-1", "--x"):
            with self.subTest(text=text):
                self.assertEqual(parse(format_source(text)), parse(text))
