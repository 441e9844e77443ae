import io
import tempfile
import unittest
from pathlib import Path

from permitry import Policy, PolicyError
from permitry.__main__ import main
from permitry.patterns import pattern_of

POLICY = """\
group staff: ada bo interns
group interns: cy          # for the summer
allow staff read,list /public/**
allow ada write /public/*/notes.txt
allow everyone read /welcome.txt
allow bo * /bo/**
"""


class PolicyTests(unittest.TestCase):
    def setUp(self):
        self.policy = Policy.read(POLICY)

    def test_answers(self):
        for user, action, path, answer in (
            ("ada", "read", "/public/x/y", True), ("cy", "list", "/public", True), ("di", "read", "/public/x", False),
            ("ada", "write", "/public/x/notes.txt", True), ("ada", "write", "/public/notes.txt", False),
            ("di", "read", "/welcome.txt", True), ("bo", "delete", "/bo/a/b", True), ("bo", "write", "/public/x", False),
        ):
            self.assertIs(self.policy.may(user, action, path), answer, (user, action, path))

    def test_groups(self):
        self.assertEqual(self.policy.groups_of("cy"), ["interns", "staff"])
        self.assertEqual(self.policy.groups_of("nobody"), [])
        self.assertEqual(self.policy.distances("cy"), {"cy": 0, "interns": 1, "staff": 2, "everyone": 4})
        self.assertEqual(self.policy.users(), ["ada", "bo", "cy"])

    def test_tables(self):
        self.assertEqual(self.policy.table("read", ["/public/x", "/bo/x"]), ["ada: yes no", "bo: yes yes", "cy: yes no"])

    def test_paths_must_be_plain(self):
        for path in ("public", "/a/../b", "/./a"):
            with self.assertRaises(ValueError):
                self.policy.may("ada", "read", path)

    def test_lines_that_cannot_be_used(self):
        for line, reason in (("allow ada read", "wanted: allow WHO ACTIONS PATH"), ("permit ada read /x", "unexpected word permit"),
                             ("allow Ada read /x", "not a name: Ada"), ("allow ada read, /x", "an action is empty"),
                             ("allow ada read x", "not an absolute path: 'x'"), ("allow ada read /x*", "* stands for whole parts only: x*"),
                             ("group a b: c", "wanted: group NAME: MEMBERS"), ("group staff: x", "there are two groups staff"),
                             ("group everyone: x", "everyone is no group of its own"), ("allow ada read /x soon", "unexpected word soon"),
                             ("group cy: staff", "the group staff contains itself")):
            with self.assertRaises(PolicyError, msg=line) as caught:
                Policy.read(POLICY + line)
            self.assertEqual(str(caught.exception).partition(": ")[2], reason)

    def test_patterns(self):
        for text, path, fits in (("/a/**/z", "a/z", True), ("/a/**/z", "a/b/c/z", True), ("/a/*/z", "a/z", False),
                                 ("/**", "", True), ("/*", "", False), ("/a", "a/b", False)):
            parts = tuple(part for part in path.split("/") if part)
            self.assertIs(pattern_of(text, 1).fits(parts), fits, (text, path))


class CommandLineTests(unittest.TestCase):
    def test_answers(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "policy"
            path.write_text(POLICY)
            for arguments, code, told in ((["ada", "read", "/public/x"], 0, "yes"), (["di", "read", "/x"], 1, "no"),
                                          (["di", "read", "x"], 2, "not an absolute path"), ([], 2, "usage")):
                out = io.StringIO()
                self.assertEqual(main([str(path)] + arguments, out), code)
                self.assertIn(told, out.getvalue())


if __name__ == "__main__":
    unittest.main()
