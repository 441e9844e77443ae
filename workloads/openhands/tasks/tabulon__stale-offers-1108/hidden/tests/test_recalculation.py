import random
import unittest

from tabulon import CellError, Sheet, dump, load

CYCLE = CellError("#CYCLE!")


def sheet_of(**cells):
    sheet = Sheet()
    for name, content in cells.items():
        sheet.set(name, content)
    return sheet


class OrderTests(unittest.TestCase):
    def test_ways_of_different_length(self):
        sheet = sheet_of(A1="10", B1="=A1*2", C1="=B1+5", D1="=A1+C1")
        sheet.set("A1", "20")
        self.assertEqual(sheet.value("D1"), 65.0)

    def test_a_ladder(self):
        sheet = sheet_of(A1="1", A2="=A1", A3="=A1+A2", A4="=A1+A2+A3", A5="=A4+A1", A6="=A5+A2+A1")
        sheet.set("A1", "10")
        self.assertEqual([sheet.value("A%d" % row) for row in range(2, 7)], [10.0, 20.0, 40.0, 50.0, 70.0])

    def test_names_do_not_decide_the_order(self):
        sheet = sheet_of(C1="1", B1="=C1+1", A1="=B1+C1", D1="=A1+B1+C1")
        sheet.set("C1", "5")
        self.assertEqual((sheet.value("A1"), sheet.value("D1")), (11.0, 22.0))

    def test_random_sheets_are_as_loaded_ones(self):
        dice = random.Random(7)
        for _ in range(30):
            sheet = Sheet()
            for row in range(1, 13):
                inputs = ["A%d" % dice.randrange(1, row) for _ in range(3)] if row > 2 else []
                sheet.set("A%d" % row, "=" + "+".join(inputs) if inputs else str(row))
            sheet.set("A1", "100")
            again = load(dump(sheet))
            for name in sheet.names():
                self.assertEqual(sheet.value(name), again.value(name), (name, dump(sheet)))


class RangeTests(unittest.TestCase):
    def test_an_empty_cell_of_a_range_is_filled(self):
        sheet = sheet_of(A1="1", A3="3", B1="=SUM(A1:A3)", B2="=COUNT(A1:A3)", B3="=B1/B2")
        sheet.set("A2", "100")
        self.assertEqual([sheet.value(n) for n in ("B1", "B2", "B3")], [104.0, 3.0, 104.0 / 3])

    def test_a_cell_is_cleared_and_filled_again(self):
        sheet = sheet_of(A1="1", A2="2", B1="=SUM(A1:A3)")
        sheet.clear("A2")
        self.assertEqual(sheet.value("B1"), 1.0)
        sheet.set("A2", "9")
        self.assertEqual(sheet.value("B1"), 10.0)

    def test_a_replaced_formula_lets_go_of_its_range(self):
        sheet = sheet_of(A1="1", B1="=SUM(A1:A9)")
        heard = []
        sheet.set("B1", "=A1")
        sheet.on_change(heard.append)
        sheet.set("A5", "5")
        self.assertEqual((sheet.value("B1"), heard), (1.0, ["A5"]))

    def test_formulas_within_a_range_come_first(self):
        sheet = sheet_of(B1="=SUM(A1:A3)", A3="=A2*2", A2="=A1*2", A1="1")
        self.assertEqual(sheet.value("B1"), 7.0)
        sheet.set("A1", "2")
        self.assertEqual(sheet.value("B1"), 14.0)

    def test_a_circle_through_a_range(self):
        sheet = sheet_of(A1="1", B1="=SUM(A1:A3)")
        sheet.set("A2", "=B1")
        self.assertEqual((sheet.value("A2"), sheet.value("B1")), (CYCLE, CYCLE))
        sheet.set("A2", "4")
        self.assertEqual((sheet.value("A2"), sheet.value("B1")), (4.0, 5.0))


class ListenerTests(unittest.TestCase):
    def heard(self, sheet, name, content):
        heard = []
        sheet.on_change(heard.append)
        sheet.set(name, content)
        return heard

    def test_each_changed_cell_once(self):
        sheet = sheet_of(A1="10", B1="=A1*2", C1="=B1+5", D1="=A1+C1")
        self.assertEqual(sorted(self.heard(sheet, "A1", "20")), ["A1", "B1", "C1", "D1"])

    def test_unchanged_cells_are_silent(self):
        sheet = sheet_of(A1="10", B1="=A1>5", C1="=B1&A1")
        self.assertEqual(sorted(self.heard(sheet, "A1", "20")), ["A1", "C1"])
        self.assertEqual(self.heard(sheet, "A1", "20"), [])

    def test_one_is_not_true(self):
        sheet = sheet_of(A1="1")
        self.assertEqual(self.heard(sheet, "A1", "TRUE"), ["A1"])

    def test_values_are_complete_when_listeners_are_called(self):
        sheet = sheet_of(A1="1", B1="=A1", C1="=A1+B1")
        seen = []
        sheet.on_change(lambda name: seen.append(sheet.value("C1")))
        sheet.set("A1", "2")
        self.assertEqual(set(seen), {4.0})


class CircleTests(unittest.TestCase):
    def test_behind_a_circle_and_beside_it(self):
        sheet = sheet_of(A1="=B1", B1="=A1", C1="=B1+1", D1="1", E1="=D1+C1", F1="=D1+1")
        self.assertEqual([sheet.value(n) for n in ("A1", "B1", "C1", "E1", "F1")], [CYCLE] * 4 + [2.0])
        sheet.set("B1", "2")
        self.assertEqual([sheet.value(n) for n in ("A1", "C1", "E1")], [2.0, 3.0, 4.0])
