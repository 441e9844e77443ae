import unittest

from tabulon import CellError, FormulaError, Sheet, dump, load

CYCLE = CellError("#CYCLE!")


class SheetTests(unittest.TestCase):
    def setUp(self):
        self.sheet = Sheet()

    def set(self, **cells):
        for name, content in cells.items():
            self.sheet.set(name, content)

    def values(self, *names):
        return [self.sheet.value(name) for name in names]

    def test_constants(self):
        self.set(A1="1.5", A2="text", A3="true", A4="'12")
        self.assertEqual(self.values("A1", "A2", "A3", "A4", "A5"), [1.5, "text", True, "12", None])

    def test_a_chain_is_updated(self):
        self.set(A1="1", A2="=A1+1", A3="=A2+1", A4="=A3+1")
        self.set(A1="10")
        self.assertEqual(self.values("A2", "A3", "A4"), [11.0, 12.0, 13.0])

    def test_a_reference_to_an_empty_cell_is_updated(self):
        self.set(B1="=A1*2")
        self.set(A1="4")
        self.assertEqual(self.values("B1"), [8.0])

    def test_a_filled_range_is_updated(self):
        self.set(A1="1", A2="2", B1="=SUM(A1:A2)")
        self.set(A2="5")
        self.assertEqual(self.values("B1"), [6.0])
        self.sheet.clear("A2")
        self.assertEqual(self.values("B1"), [1.0])

    def test_a_new_formula_lets_go_of_old_inputs(self):
        self.set(A1="1", A2="2", B1="=A1")
        self.set(B1="=A2")
        self.set(A1="7")
        self.assertEqual(self.values("B1"), [2.0])

    def test_a_bad_formula_changes_nothing(self):
        self.set(A1="=1+1")
        with self.assertRaises(FormulaError):
            self.set(A1="=1+")
        self.assertEqual(self.values("A1"), [2.0])
        self.assertEqual(self.sheet.content("A1"), "=1+1")

    def test_errors_spread(self):
        self.set(A1="0", A2="=1/A1", A3="=A2+1")
        self.assertEqual(self.values("A3"), [CellError("#DIV/0!")])
        self.set(A1="2")
        self.assertEqual(self.values("A3"), [1.5])

    def test_circles(self):
        self.set(A1="=B1", B1="=C1", C1="=A1", D1="=A1+1", E1="5")
        self.assertEqual(self.values("A1", "B1", "C1", "D1", "E1"), [CYCLE] * 4 + [5.0])
        self.set(C1="3")
        self.assertEqual(self.values("A1", "B1", "C1", "D1"), [3.0, 3.0, 3.0, 4.0])

    def test_a_cell_that_mentions_itself(self):
        self.set(A1="=A1+1")
        self.assertEqual(self.values("A1"), [CYCLE])

    def test_listeners_hear_of_a_single_cell(self):
        heard = []
        self.sheet.on_change(heard.append)
        self.set(A1="1")
        self.assertEqual(heard, ["A1"])


class FileTests(unittest.TestCase):
    def test_there_and_back(self):
        sheet = Sheet()
        for name, content in (("B2", "=A1&A2"), ("A1", "tab\there"), ("A2", "back\\slash"), ("C3", "=SUM(A1:B2)")):
            sheet.set(name, content)
        again = load(dump(sheet))
        self.assertEqual(dump(again), dump(sheet))
        self.assertEqual(again.value("B2"), sheet.value("B2"))

    def test_lines_that_cannot_be_used(self):
        with self.assertRaisesRegex(ValueError, "line 2 has no tab"):
            load("A1\t1\nA2 2\n")
        with self.assertRaisesRegex(ValueError, "line 1: not the name"):
            load("A0\t1\n")


if __name__ == "__main__":
    unittest.main()
