from kilnrun import RecipeFailed
from tests.trees import RULES, TreeTest


class ReasonTests(TreeTest):
    def test_an_input_less(self):
        self.build()
        rules = RULES.replace("a.txt b.txt", "a.txt")
        self.assertEqual(self.plan(rules=rules), ["list", "page"])
        self.assertEqual(self.build(rules=rules), ["list", "page"])
        self.assertEqual(self.tree.read("page"), "apple\npear\nthe end\n")

    def test_inputs_in_another_order(self):
        rules = "out: a.txt b.txt\n  join"
        self.build(rules=rules)
        self.assertEqual(self.build(rules="out: b.txt a.txt\n  join"), ["out"])
        self.assertEqual(self.tree.read("out"), "fig\npear\napple\n")

    def test_another_recipe(self):
        self.build()
        rules = RULES.replace("join", "upper")
        self.assertEqual(self.build(rules=rules), ["page"])
        self.assertEqual(self.build(rules=rules), [])
        self.assertEqual(self.build(rules=RULES.replace("join", "join -")), ["page"])

    def test_an_older_input(self):
        self.build()
        self.tree.write("a.txt", "kiwi\n")
        self.set_time(-9000, "a.txt")
        self.assertEqual(self.plan(), ["list", "page"])
        self.assertEqual(self.build(), ["list", "page"])

    def test_a_touched_input(self):
        self.build()
        self.set_time(9e8, "a.txt", "b.txt", "head.txt")
        self.assertEqual((self.plan(), self.build()), ([], []))

    def test_a_changed_target(self):
        self.build()
        self.tree.write("page", "by hand")
        self.assertEqual(self.build(), ["page"])


class CutOffTests(TreeTest):
    def test_the_same_intermediate_contents(self):
        self.build()
        self.tree.write("a.txt", "apple\npear\n")
        self.set_time(9e8, "a.txt")
        self.assertEqual(self.plan(), ["list", "page"])
        self.assertEqual(self.build(), ["list"])
        self.assertEqual((self.plan(), self.build()), ([], []))

    def test_a_deleted_intermediate_target(self):
        self.build()
        (self.tree.folder / "list").unlink()
        self.assertEqual(self.plan(), ["list", "page"])
        self.assertEqual(self.build(), ["list"])

    def test_a_deleted_goal(self):
        self.build()
        (self.tree.folder / "page").unlink()
        self.assertEqual(self.build(), ["page"])

    def test_goals_apart(self):
        self.build()
        self.tree.write("a.txt", "kiwi\n")
        self.assertEqual(self.build("list"), ["list"])
        self.assertEqual(self.build(), ["page"])


class FailureTests(TreeTest):
    RULES = "one: a.txt\n  join\ntwo: one\n  need plum\n"

    def fail(self):
        with self.assertRaises(RecipeFailed):
            self.build(rules=self.RULES)

    def test_what_succeeded_is_remembered(self):
        self.fail()
        self.assertEqual(self.plan(rules=self.RULES), ["two"])

    def test_what_failed_is_tried_again(self):
        self.tree.write("a.txt", "plum\n")
        self.build(rules=self.RULES)
        self.tree.write("a.txt", "apple\n")
        self.fail()
        self.assertEqual(self.plan(rules=self.RULES), ["two"])
        self.fail()
        self.tree.write("a.txt", "plum\n")
        self.assertEqual(self.build(rules=self.RULES), ["one", "two"])

    def test_a_failed_target_is_tried_again_although_its_old_file_fits(self):
        self.tree.write("a.txt", "plum\n")
        self.build(rules=self.RULES)
        with self.assertRaises(RecipeFailed):
            self.build(rules=self.RULES.replace("need plum", "need fig"))
        self.assertEqual(self.build(rules=self.RULES), ["two"])


class StateTests(TreeTest):
    def test_the_old_version_is_thrown_away(self):
        self.build()
        state = self.tree.read(".kilnrun.json")
        self.assertNotIn('"version": 1,', state)
        self.tree.write(".kilnrun.json", state.replace('"version": 2', '"version": 1'))
        self.assertEqual(self.build(), ["list", "page"])
