import unittest

from stratum import SyntaxProblem
from stratum.parser import parse, quote, unquote


class ParserTests(unittest.TestCase):
    def test_sections_keys_and_comments(self):
        text = "a = 1\n# note\n[Web]\nHost = box\n; more\n[web]\nport = 80\n"
        self.assertEqual(parse(text), {"default": {"a": "1"},
                                       "web": {"host": "box", "port": "80"}})

    def test_continuation(self):
        self.assertEqual(parse("x = one,\n   two\n")["default"]["x"], "one, two")

    def test_problems_name_the_line(self):
        for text, line in [("  x\n", 1), ("[a\n", 1), ("\nx\n", 2), ("x=1\nX=2", 2)]:
            with self.assertRaises(SyntaxProblem) as caught:
                parse(text)
            self.assertEqual(caught.exception.line, line)

    def test_quotes(self):
        for value in ["", "plain", " blank ", '"said"', '"']:
            self.assertEqual(unquote(quote(value)), value)
