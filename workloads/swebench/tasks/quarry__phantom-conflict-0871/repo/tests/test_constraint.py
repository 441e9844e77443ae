import unittest

from quarry import Constraint, ConstraintError, Version


def admitted(text, *versions):
    constraint = Constraint.parse(text)
    return [v for v in versions if constraint.admits(Version.parse(v))]


class ConstraintTests(unittest.TestCase):
    def test_caret(self):
        self.assertEqual(admitted("^1.2", "1.1.9", "1.2.0", "1.9.9", "2.0.0"), ["1.2.0", "1.9.9"])

    def test_caret_below_one(self):
        self.assertEqual(admitted("^0.2.3", "0.2.2", "0.2.3", "0.2.9", "0.3.0"), ["0.2.3", "0.2.9"])
        self.assertEqual(admitted("^0.0.3", "0.0.3", "0.0.4"), ["0.0.3"])
        self.assertEqual(admitted("^0", "0.0.1", "0.9.0", "1.0.0"), ["0.0.1", "0.9.0"])

    def test_tilde(self):
        self.assertEqual(admitted("~1.2.3", "1.2.2", "1.2.3", "1.2.9", "1.3.0"), ["1.2.3", "1.2.9"])
        self.assertEqual(admitted("~1", "1.0.0", "1.9.0", "2.0.0"), ["1.0.0", "1.9.0"])

    def test_partial_bounds(self):
        self.assertEqual(admitted(">1.2", "1.2.5", "1.3.0"), ["1.3.0"])
        self.assertEqual(admitted("<=1.2", "1.2.5", "1.3.0"), ["1.2.5"])

    def test_alternatives_and_wildcards(self):
        self.assertEqual(admitted("1.x || >=3,<4", "1.5.0", "2.0.0", "3.1.0", "4.0.0"),
                         ["1.5.0", "3.1.0"])
        self.assertEqual(admitted("*", "0.0.1", "9.0.0"), ["0.0.1", "9.0.0"])

    def test_prereleases_need_to_be_named(self):
        self.assertEqual(admitted(">=1.0.0", "2.0.0-rc.1"), [])
        self.assertEqual(admitted(">=2.0.0-beta", "2.0.0-rc.1", "2.1.0-rc.1"), ["2.0.0-rc.1"])

    def test_malformed_text_is_refused(self):
        with self.assertRaises(ConstraintError):
            Constraint.parse("about 3")


if __name__ == "__main__":
    unittest.main()
