import io
import unittest

from kilnrun import BuildError, RecipeFailed, Tree
from kilnrun.__main__ import main
from tests.trees import RULES, TreeTest


class BuildTests(TreeTest):
    def test_everything_is_made_once(self):
        self.assertEqual(self.build(), ["list", "page"])
        self.assertEqual(self.tree.read("page"), "apple\nfig\npear\nthe end\n")
        self.assertEqual(self.build(), [])

    def test_only_what_a_goal_needs(self):
        self.assertEqual(self.build("list"), ["list"])
        self.assertEqual(self.plan(), ["page"])

    def test_a_newer_input(self):
        self.build()
        self.tree.write("a.txt", "kiwi\n")
        self.set_time(9e8, "a.txt")
        self.assertEqual(self.plan(), ["list", "page"])
        self.assertEqual(self.build(), ["list", "page"])
        self.assertEqual(self.tree.read("page"), "fig\nkiwi\nthe end\n")

    def test_a_new_input(self):
        self.build()
        self.tree.write("c.txt", "plum\n")
        rules = RULES.replace("b.txt", "b.txt c.txt")
        self.assertEqual(self.build(rules=rules), ["list", "page"])

    def test_a_missing_input(self):
        with self.assertRaisesRegex(RecipeFailed, "list cannot be made: x is missing"):
            self.build(rules="list: x\n sort")

    def test_recipes_that_fail(self):
        for recipe in ("need plum", "head x", "head", "nosuch"):
            with self.assertRaises(RecipeFailed, msg=recipe):
                self.build(rules="out: a.txt\n  " + recipe)

    def test_a_damaged_state_is_no_state(self):
        self.build()
        for text in ("", "[1]", "{}", '{"version": 99, "made": {}}', '{"version": null}'):
            self.tree.write(".kilnrun.json", text)
            self.assertEqual(self.build(), ["list", "page"], text)

    def test_names_stay_in_the_folder(self):
        with self.assertRaises(BuildError):
            Tree(self.tree.folder).read("../x")


class CommandLineTests(TreeTest):
    def test_plan_and_build(self):
        self.tree.write("Kilnfile", RULES)
        for arguments, code, told in ((["-n"], 0, "list: never made\npage: never made\n"), ([], 0, "made list\nmade page\n"),
                                      (["nothing"], 1, "there is no rule for nothing\n")):
            out = io.StringIO()
            self.assertEqual(main([str(self.tree.folder)] + arguments, out), code)
            self.assertEqual(out.getvalue(), told)
        self.assertEqual(main([], io.StringIO()), 2)


if __name__ == "__main__":
    unittest.main()
