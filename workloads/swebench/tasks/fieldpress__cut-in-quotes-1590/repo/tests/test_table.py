"""Tables of text."""

import os
import tempfile
import unittest

from fieldpress import preview, render_table


class TableTests(unittest.TestCase):
    def test_columns(self):
        table = render_table([["id", "name"], ["1", "bolt"], ["12", "nut"]])
        self.assertEqual(table.split("\n"), ["id  name", "--  ----", " 1  bolt", "12  nut"])

    def test_cells_with_several_lines(self):
        table = render_table([["a\nb", "x"], ["c", None]], header=False)
        self.assertEqual(table.split("\n"), ["a  x", "b", "c  (null)"])

    def test_long_cells_are_cut(self):
        self.assertEqual(render_table([["x" * 9]], header=False, widest=6), "xxx...")

    def test_short_rows_are_filled(self):
        self.assertEqual(render_table([["a", "b"], ["c"]], header=False), "a  b\nc")


class PreviewTests(unittest.TestCase):
    def test_preview(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "stock.csv")
            with open(path, "w", encoding="utf-8", newline="") as stream:
                stream.write("id,name\n1,bolt\n2,nut\n3,pin\n4,cap\n")
            shown = preview(path, start=1, limit=2)
        self.assertEqual(shown.split("\n"), ["id  name", "--  ----", " 2  nut", " 3  pin",
                                             "... 1 more"])
