import unittest

from lotwise import Money, MoneyError
from lotwise.money import add_up


class MoneyTests(unittest.TestCase):
    def test_parse_and_print(self):
        for text, shown in [("7", "7.00"), ("7.5", "7.50"), ("-0.05", "-0.05")]:
            self.assertEqual(str(Money.parse(text)), shown)

    def test_parse_refuses_thirds_of_cents(self):
        with self.assertRaises(MoneyError):
            Money.parse("0.333")

    def test_share_rounds_half_away_from_zero(self):
        self.assertEqual(Money(5).share(1, 2), Money(3))
        self.assertEqual(Money(-5).share(1, 2), Money(-3))
        self.assertEqual(Money(10).share(1, 3), Money(3))

    def test_allocate_adds_up(self):
        pieces = Money(100).allocate([1, 1, 1])
        self.assertEqual(pieces, [Money(34), Money(33), Money(33)])
        self.assertEqual(add_up(Money(7).allocate([5, 0, 9])), Money(7))


if __name__ == "__main__":
    unittest.main()
