import io
import tempfile
import unittest
from datetime import date
from pathlib import Path

from permitry import Policy, PolicyError
from permitry.__main__ import main


def line_of(text, user, action, path, on=None):
    rule = Policy.read(text).explain(user, action, path, on)
    return rule and rule.line


class DenialTests(unittest.TestCase):
    def test_the_most_specific_path(self):
        text = "allow ada read /**\ndeny ada read /a/**\nallow ada read /a/*/c\ndeny ada read /a/b/*\nallow ada read /a/b/c"
        for path, line in (("/x", 1), ("/a", 2), ("/a/x/y", 2), ("/a/x/c", 3), ("/a/b/x", 4), ("/a/b/c", 5)):
            self.assertEqual(line_of(text, "ada", "read", path), line, path)

    def test_compared_from_the_left(self):
        self.assertEqual(line_of("allow ada read /a/**\ndeny ada read /*/b/c", "ada", "read", "/a/b/c"), 1)
        self.assertEqual(line_of("allow ada read /a/**/c\ndeny ada read /a/**", "ada", "read", "/a/b/c"), 1)

    def test_the_nearest_subject(self):
        text = ("group staff: team\ngroup team: ada\ndeny everyone read /x\nallow staff read /x\ndeny team read /x\nallow ada read /x\n")
        for removed, line in (([], 6), ([6], 5), ([6, 5], 4), ([6, 5, 4], 3)):
            lines = text.splitlines()
            for number in removed:
                lines[number - 1] = ""
            self.assertEqual(line_of("\n".join(lines), "ada", "read", "/x"), line)

    def test_the_shortest_way_to_a_group(self):
        text = "group a: b ada\ngroup b: ada\nallow a read /x\ndeny b read /x"
        self.assertEqual(line_of(text, "ada", "read", "/x"), 4)
        self.assertEqual(line_of("group a: b\ngroup b: ada\nallow a read /x\ndeny b read /x", "ada", "read", "/x"), 4)
        self.assertFalse(Policy.read(text).may("ada", "read", "/x"))

    def test_denials_win_ties(self):
        self.assertEqual(line_of("deny ada read /x\nallow ada read /x", "ada", "read", "/x"), 1)
        self.assertEqual(line_of("allow ada read /x\ndeny ada * /x", "ada", "read", "/x"), 2)

    def test_other_actions_are_not_concerned(self):
        self.assertTrue(Policy.read("allow ada read /x\ndeny ada write /x").may("ada", "read", "/x"))

    def test_no_line_fits(self):
        self.assertIsNone(line_of("deny bo read /x", "ada", "read", "/x"))

    def test_rules_tell_their_text(self):
        rule = Policy.read("# first\n  deny ada read /x  # why").explain("ada", "read", "/x")
        self.assertEqual((rule.line, rule.text), (2, "deny ada read /x"))


class TimeTests(unittest.TestCase):
    TEXT = "allow ada read /x from 2024-03-01 until 2024-03-31\nallow bo read /x until 2024-03-10\nallow cy read /x from 2024-03-10\n"

    def test_both_days_are_included(self):
        policy = Policy.read(self.TEXT)
        for user, day, answer in (("ada", (2, 29), False), ("ada", (3, 1), True), ("ada", (3, 31), True), ("ada", (4, 1), False),
                                  ("bo", (1, 1), True), ("bo", (3, 11), False), ("cy", (3, 9), False), ("cy", (12, 1), True)):
            self.assertIs(policy.may(user, "read", "/x", on=date(2024, *day)), answer, (user, day))

    def test_the_order_of_the_words(self):
        policy = Policy.read("allow ada read /x until 2024-03-31 from 2024-03-01")
        self.assertFalse(policy.may("ada", "read", "/x", on=date(2024, 2, 1)))

    def test_a_denial_that_is_over(self):
        text = "allow ada read /**\ndeny ada read /x until 2024-03-10"
        self.assertEqual([line_of(text, "ada", "read", "/x", date(2024, 3, day)) for day in (10, 11)], [2, 1])

    def test_today(self):
        policy = Policy.read(self.TEXT)
        policy.today = lambda: date(2024, 3, 5)
        self.assertTrue(policy.may("ada", "read", "/x"))
        self.assertEqual(Policy.today(), date.today())

    def test_expiring(self):
        policy = Policy.read(self.TEXT + "deny di read /x until 2024-03-10")
        self.assertEqual([rule.line for rule in policy.expiring(date(2024, 3, 10))], [2, 4, 1])
        self.assertEqual([rule.line for rule in policy.expiring(date(2024, 3, 1), days=9)], [2, 4])
        self.assertEqual(policy.expiring(date(2024, 3, 1), days=8), [])
        self.assertEqual([rule.line for rule in policy.expiring(date(2024, 3, 11))], [1])

    def test_errors(self):
        for end, reason in (("soon", "unexpected word soon"), ("from 2024-02-30", "not a date: 2024-02-30"), ("until", "not a date: "),
                            ("from 2024-03-02 until 2024-03-01", "it ends before it begins"),
                            ("from 2024-01-01 from 2024-01-02", "from stands there twice")):
            with self.assertRaises(PolicyError) as caught:
                Policy.read("\n\ndeny ada read /x " + end)
            self.assertEqual(str(caught.exception), "line 3: " + reason)


class CommandLineTests(unittest.TestCase):
    def test_the_deciding_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "policy"
            path.write_text("allow ada read /x\ndeny ada read /x/y until 2024-03-05\n")
            for arguments, code, told in (
                (["ada", "read", "/x"], 0, "yes (line 1: allow ada read /x)\n"),
                (["ada", "read", "/x/y", "--on", "2024-03-05"], 1, "no (line 2: deny ada read /x/y until 2024-03-05)\n"),
                (["--on", "2024-03-06", "ada", "read", "/x/y"], 1, "no (no line fits)\n"),
            ):
                out = io.StringIO()
                self.assertEqual(main([str(path)] + arguments, out), code)
                self.assertEqual(out.getvalue(), told)
            self.assertEqual(main([str(path), "ada", "read", "/x", "--on", "soon"], io.StringIO()), 2)
