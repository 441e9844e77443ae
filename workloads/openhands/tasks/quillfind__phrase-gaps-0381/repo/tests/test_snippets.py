import io
import tempfile
import unittest
from pathlib import Path

from quillfind import snippet
from quillfind.__main__ import main


class SnippetTests(unittest.TestCase):
    TEXT = "One two three, four five six. Seven eight nine ten."

    def test_words_are_marked(self):
        self.assertEqual(snippet(self.TEXT, "five eight", 2), "… three, four *five* six. Seven …")
        self.assertEqual(snippet(self.TEXT, "ONE", 1), "*One* two …")
        self.assertEqual(snippet(self.TEXT, "ten -nine", 2), "… eight nine *ten*")

    def test_nothing_found(self):
        self.assertEqual(snippet(self.TEXT, "zero", 1), "One two three …")
        self.assertEqual(snippet("", "zero"), "")


class CommandLineTests(unittest.TestCase):
    def test_files(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.txt"
            path.write_text("An oil filter")
            out = io.StringIO()
            self.assertEqual(main(["filter", str(path)], out), 0)
            self.assertEqual(out.getvalue(), "0.347 %s: An oil *filter*\n" % path)
            self.assertEqual(main(["diesel", str(path)], io.StringIO()), 1)
            self.assertEqual(main([], io.StringIO()), 2)


if __name__ == "__main__":
    unittest.main()
