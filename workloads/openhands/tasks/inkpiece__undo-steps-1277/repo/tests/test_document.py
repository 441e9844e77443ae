import unittest

from inkpiece import Document, find_all, replace_all


class DocumentTests(unittest.TestCase):
    def test_typing_and_moving(self):
        doc = Document("ad")
        doc.move(1)
        doc.type("bc")
        self.assertEqual((doc.text, doc.cursor, len(doc)), ("abcd", 3, 4))
        doc.move(99)
        self.assertEqual(doc.cursor, 4)

    def test_deleting(self):
        doc = Document("abc")
        doc.backspace()
        doc.delete()
        self.assertEqual((doc.text, doc.cursor), ("bc", 0))
        doc.move(2)
        doc.delete()
        doc.backspace()
        self.assertEqual((doc.text, doc.cursor), ("b", 1))

    def test_undo_and_redo_of_typing(self):
        doc = Document("ab")
        doc.move(1)
        doc.type("xyz")
        self.assertTrue(doc.undo())
        self.assertEqual((doc.text, doc.cursor), ("ab", 1))
        self.assertTrue(doc.redo())
        self.assertEqual((doc.text, doc.cursor), ("axyzb", 4))
        self.assertFalse(doc.redo())

    def test_undo_of_a_replacement(self):
        doc = Document("one two")
        doc.replace(4, 7, "three")
        self.assertEqual((doc.text, doc.cursor), ("one three", 9))
        doc.undo()
        self.assertEqual(doc.text, "one two")
        with self.assertRaises(IndexError):
            doc.replace(3, 99, "")

    def test_modified(self):
        doc = Document("a")
        self.assertFalse(doc.modified)
        doc.replace(0, 1, "b")
        doc.save()
        self.assertFalse(doc.modified)

    def test_lines(self):
        doc = Document("ab\ncd")
        self.assertEqual([doc.line_of(at) for at in (0, 2, 3, 5)], [(1, 1), (1, 3), (2, 1), (2, 3)])

    def test_search(self):
        doc = Document("Abab aba")
        self.assertEqual(find_all(doc, "ab"), [2, 5])
        self.assertEqual(find_all(doc, "ab", ignore_case=True), [0, 2, 5])
        self.assertEqual((replace_all(doc, "ab", "x"), doc.text), (2, "Abx xa"))
        with self.assertRaises(ValueError):
            find_all(doc, "")

    def test_limits_make_sense(self):
        with self.assertRaises(ValueError):
            Document("", limit=0)


if __name__ == "__main__":
    unittest.main()
