import random
import unittest

from inkpiece import Document


def undone(doc):
    texts = []
    while doc.undo():
        texts.append(doc.text)
    return texts


class StepTests(unittest.TestCase):
    def test_moving_ends_a_step(self):
        doc = Document("hello world")
        doc.move(5)
        doc.type(",")
        doc.move(0)
        doc.type("A")
        self.assertEqual(undone(doc), ["hello, world", "hello world"])

    def test_moving_to_the_same_place_does_not(self):
        doc = Document("")
        doc.type("a")
        doc.move(1)
        doc.type("b")
        self.assertEqual(undone(doc), [""])

    def test_moving_away_and_back_does(self):
        doc = Document("xy")
        doc.type("a")
        doc.move(3)
        doc.move(1)
        doc.type("b")
        self.assertEqual(undone(doc), ["axy", "xy"])

    def test_deletions_are_joined(self):
        for name, start in (("backspace", 3), ("delete", 0)):
            doc = Document("abc")
            doc.move(start)
            for _ in range(4):
                getattr(doc, name)()
            self.assertEqual((doc.text, doc.undo(), doc.text, doc.cursor), ("", True, "abc", start), name)
            doc.redo()
            self.assertEqual((doc.text, doc.cursor), ("", 0))

    def test_kinds_are_apart(self):
        doc = Document("")
        doc.type("ab")
        doc.backspace()
        doc.type("c")
        doc.move(0)
        doc.delete()
        self.assertEqual(undone(doc), ["ac", "a", "ab", ""])

    def test_line_breaks_are_steps_of_their_own(self):
        doc = Document("")
        doc.type("one\n\ntwo")
        self.assertEqual(undone(doc), ["one\n\n", "one\n", "one", ""])
        doc = Document("a\nb")
        doc.move(3)
        for _ in range(3):
            doc.backspace()
        self.assertEqual(undone(doc), ["a", "a\n", "a\nb"])

    def test_undo_ends_a_step(self):
        doc = Document("")
        doc.type("a")
        doc.move(0)
        doc.type("b")
        doc.undo()
        doc.move(1)
        doc.type("c")
        self.assertEqual(undone(doc), ["a", ""])

    def test_redo_ends_a_step(self):
        doc = Document("")
        doc.type("a")
        doc.undo()
        doc.redo()
        doc.type("b")
        self.assertEqual(undone(doc), ["a", ""])


class RedoTests(unittest.TestCase):
    def test_nothing_to_redo_after_an_edit(self):
        doc = Document("abc")
        doc.replace(0, 3, "a long text")
        doc.undo()
        doc.type("x")
        self.assertFalse(doc.redo())
        self.assertEqual(doc.text, "xabc")

    def test_random_histories_there_and_back(self):
        dice = random.Random(2)
        for _ in range(40):
            doc = Document("some text\nwith lines")
            for _ in range(60):
                action = dice.randrange(6)
                if action == 0:
                    doc.move(dice.randrange(25))
                elif action == 1:
                    doc.type(dice.choice(["a", "bc", "\n", "d\ne"]))
                elif action == 2:
                    doc.backspace()
                elif action == 3:
                    doc.delete()
                elif action == 4:
                    doc.undo()
                else:
                    doc.redo()
            while doc.redo():
                pass
            states = [(doc.text, doc.cursor)]
            while doc.undo():
                states.append((doc.text, doc.cursor))
            self.assertEqual(doc.text, "some text\nwith lines")
            texts = [text for text, _ in states]
            back = [doc.text]
            while doc.redo():
                back.append(doc.text)
            self.assertEqual(back[::-1], texts)


class CursorTests(unittest.TestCase):
    def test_before_and_after(self):
        doc = Document("one two")
        doc.move(2)
        doc.replace(4, 7, "x")
        doc.move(0)
        doc.undo()
        self.assertEqual(doc.cursor, 2)
        doc.redo()
        self.assertEqual(doc.cursor, 5)


class LimitTests(unittest.TestCase):
    def test_the_oldest_are_forgotten(self):
        doc = Document("", limit=3)
        for char in "a\nb\nc":
            doc.type(char)
        self.assertEqual(undone(doc), ["a\nb\n", "a\nb", "a\n"])

    def test_modified_for_good_after_forgetting(self):
        doc = Document("", limit=2)
        doc.save()
        doc.type("a\nb")
        while doc.undo():
            self.assertTrue(doc.modified)
        self.assertTrue(doc.modified)

    def test_a_saved_state_within_the_limit(self):
        doc = Document("", limit=2)
        doc.type("a\n")
        doc.save()
        doc.type("b")
        self.assertTrue(doc.modified)
        doc.undo()
        self.assertFalse(doc.modified)


class ModifiedTests(unittest.TestCase):
    def test_back_to_the_saved_state(self):
        doc = Document("")
        doc.type("a")
        doc.save()
        doc.type("b")
        self.assertTrue(doc.modified)
        doc.undo()
        self.assertEqual((doc.text, doc.modified), ("a", False))
        doc.undo()
        self.assertTrue(doc.modified)
        doc.redo()
        self.assertFalse(doc.modified)

    def test_a_state_that_is_gone(self):
        doc = Document("")
        doc.type("a")
        doc.save()
        doc.undo()
        doc.type("b")
        self.assertTrue(doc.modified)
        doc.undo()
        self.assertTrue(doc.modified)
        doc.redo()
        self.assertTrue(doc.modified)

    def test_fresh_documents(self):
        doc = Document("x")
        doc.type("a")
        self.assertTrue(doc.modified)
        doc.undo()
        self.assertFalse(doc.modified)
