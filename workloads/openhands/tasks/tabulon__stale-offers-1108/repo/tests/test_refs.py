import unittest

from tabulon import Block, Ref
from tabulon.refs import column_name, column_number


class RefTests(unittest.TestCase):
    def test_names(self):
        self.assertEqual(Ref.parse("b7"), Ref(7, 2))
        self.assertEqual(Ref(12, 27).name, "AA12")

    def test_columns_there_and_back(self):
        for number in range(1, 2000):
            self.assertEqual(column_number(column_name(number)), number)

    def test_bad_names(self):
        for name in ("", "7", "A0", "A01", "ABCD1", "A-1", "A1B"):
            with self.assertRaises(ValueError, msg=name):
                Ref.parse(name)

    def test_blocks(self):
        block = Block.between(Ref.parse("C1"), Ref.parse("A2"))
        self.assertEqual([str(ref) for ref in block.cells()], ["A1", "B1", "C1", "A2", "B2", "C2"])
        self.assertEqual((str(block), len(block)), ("A1:C2", 6))
        self.assertIn(Ref.parse("B2"), block)
        self.assertNotIn(Ref.parse("B3"), block)


if __name__ == "__main__":
    unittest.main()
