import unittest

from kilnrun import Rule, RuleError, parse_rules
from kilnrun.rules import in_order


class RuleTests(unittest.TestCase):
    def test_rules(self):
        rules = parse_rules("# all\npage: a  b\n\n    join  -\nlist:\n\tsort\n")
        self.assertEqual(rules, {"page": Rule("page", ("a", "b"), "join -"), "list": Rule("list", (), "sort")})

    def test_what_is_no_rule(self):
        for text, line, reason in (("  join", 1, "without a rule"), ("a: b\nc: d\n  join", 1, "a has no recipe"),
                                   ("a: b", 1, "no recipe"), ("a b: c\n  join", 1, "wanted"), ("\nab\n", 2, "wanted"),
                                   ("a:\n  join\na:\n  join", 3, "two rules"), ("a: b b\n  join", 1, "twice")):
            with self.assertRaisesRegex(RuleError, reason) as caught:
                parse_rules(text)
            self.assertEqual(caught.exception.line, line, text)

    def test_inputs_come_first(self):
        rules = parse_rules("c: b a\n join\nb: a x\n join\na: x\n join\nd: c\n join")
        self.assertEqual([rule.target for rule in in_order(rules, ["c"])], ["a", "b", "c"])

    def test_circles(self):
        with self.assertRaisesRegex(RuleError, "a needs itself: a <- b <- a"):
            in_order(parse_rules("a: b\n join\nb: a\n join"), ["a"])
        with self.assertRaisesRegex(RuleError, "no rule for x"):
            in_order({}, ["x"])


if __name__ == "__main__":
    unittest.main()
