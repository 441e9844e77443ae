import unittest

from tabulon import CellError, FormulaError, Sheet
from tabulon.parser import mentioned, parse
from tabulon.refs import Block, Ref


def worth(formula, **cells):
    sheet = Sheet()
    for name, content in cells.items():
        sheet.set(name, content)
    sheet.set("Z99", formula)
    return sheet.value("Z99")


class FormulaTests(unittest.TestCase):
    def test_operators(self):
        self.assertEqual(worth("=1+2*3"), 7.0)
        self.assertEqual(worth("=(1+2)*3"), 9.0)
        self.assertEqual(worth("=2^3^2"), 512.0)
        self.assertEqual(worth("=-2^2"), -4.0)
        self.assertEqual(worth("=10-3-2"), 5.0)
        self.assertEqual(worth('="a"&1&"b"'), "a1b")

    def test_comparisons(self):
        self.assertIs(worth("=1<2"), True)
        self.assertIs(worth('="a"<>"b"'), True)
        self.assertIs(worth("=A1=0"), True)
        self.assertEqual(worth('=1<"a"'), CellError("#VALUE!"))

    def test_functions(self):
        cells = {"A1": "1", "A2": "two", "A3": "3"}
        self.assertEqual(worth("=SUM(A1:A3)", **cells), 4.0)
        self.assertEqual(worth("=COUNT(A1:A3)", **cells), 2.0)
        self.assertEqual(worth("=AVERAGE(A1:A3)", **cells), 2.0)
        self.assertEqual(worth("=MAX(A1:A3; 7)", **cells), 7.0)
        self.assertEqual(worth('=IF(A1>0, "plus", "minus")', **cells), "plus")
        self.assertEqual(worth('=COUNTIF(A1:A3, "two")', **cells), 1.0)
        self.assertEqual(worth("=ROUND(2.567, 1)"), 2.6)

    def test_errors_are_values(self):
        self.assertEqual(worth("=1/0"), CellError("#DIV/0!"))
        self.assertEqual(worth("=NOSUCH(1)"), CellError("#NAME?"))
        self.assertEqual(worth('=1+"a"'), CellError("#VALUE!"))
        self.assertEqual(worth("=SUM(A1:A2)", A1="=1/0"), CellError("#DIV/0!"))

    def test_formulas_that_cannot_be_read(self):
        for formula, position in (("1+", 2), ("(1", 2), ("1 ? 2", 2), ("A1:", 3), ("SUM(1,)", 6)):
            with self.assertRaises(FormulaError, msg=formula) as caught:
                parse(formula)
            self.assertEqual(caught.exception.position, position, formula)

    def test_what_a_formula_mentions(self):
        refs, blocks = mentioned(parse("A1 + SUM(B1:B3, -C1) & D1"))
        self.assertEqual({ref.name for ref in refs}, {"A1", "C1", "D1"})
        self.assertEqual(blocks, {Block(Ref(1, 2), Ref(3, 2))})


if __name__ == "__main__":
    unittest.main()
