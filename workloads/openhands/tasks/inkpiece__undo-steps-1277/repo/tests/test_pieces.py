import random
import unittest

from inkpiece import PieceTable


class PieceTests(unittest.TestCase):
    def test_random_edits_are_as_with_a_string(self):
        dice = random.Random(1)
        for _ in range(50):
            plain = "".join(dice.choice("abc\n") for _ in range(dice.randrange(20)))
            table = PieceTable(plain)
            for _ in range(60):
                at = dice.randrange(len(plain) + 1)
                if dice.random() < 0.6:
                    text = "".join(dice.choice("xyz") for _ in range(dice.randrange(4)))
                    table.insert(at, text)
                    plain = plain[:at] + text + plain[at:]
                else:
                    count = dice.randrange(len(plain) - at + 1)
                    self.assertEqual(table.delete(at, count), plain[at:at + count])
                    plain = plain[:at] + plain[at + count:]
                self.assertEqual((str(table), len(table)), (plain, len(plain)))
                self.assertEqual(table.slice(at, at + 3), plain[at:at + 3])

    def test_typing_makes_one_piece(self):
        table = PieceTable("ab")
        for number, char in enumerate("xyz"):
            table.insert(1 + number, char)
        self.assertEqual((str(table), table.pieces()), ("axyzb", 3))

    def test_outside(self):
        table = PieceTable("abc")
        for call in (lambda: table.insert(4, "x"), lambda: table.insert(-1, "x"), lambda: table.delete(2, 2)):
            with self.assertRaises(IndexError):
                call()


if __name__ == "__main__":
    unittest.main()
