"""Trees: what binds to what."""

import unittest
from fractions import Fraction

from gaugelang import SyntaxFault, parse
from gaugelang.nodes import Assign, Binary, Convert, Literal, Name, Negate


def number(value, *units):
    return Literal(Fraction(value), units)


class BindingTests(unittest.TestCase):
    def test_product_before_sum(self):
        self.assertEqual(parse("1 + 2 * x"),
                         Binary("+", number(1), Binary("*", number(2), Name("x"))))

    def test_power_groups_to_the_right(self):
        self.assertEqual(parse("a^b^2"),
                         Binary("^", Name("a"), Binary("^", Name("b"), number(2))))

    def test_sign_of_a_power(self):
        self.assertEqual(parse("-a^2"), Negate(Binary("^", Name("a"), number(2))))

    def test_minus_behind_an_operand_subtracts(self):
        for text in ("x -2", "x-2", "x - 2"):
            self.assertEqual(parse(text), Binary("-", Name("x"), number(2)))

    def test_assignment(self):
        self.assertEqual(parse("x = 2"), Assign("x", number(2)))


class UnitTests(unittest.TestCase):
    def test_unit_belongs_to_the_number(self):
        self.assertEqual(parse("90 km / 2 h"),
                         Binary("/", number(90, ("km", 1)), number(2, ("h", 1))))

    def test_exponents_of_units(self):
        self.assertEqual(parse("3 m^2"), number(3, ("m", 2)))
        self.assertEqual(parse("50 s^-1"), number(50, ("s", -1)))

    def test_conversion_is_loosest(self):
        self.assertEqual(parse("x + 1 m to kg*m/s^2"),
                         Convert(Binary("+", Name("x"), number(1, ("m", 1))),
                                 (("kg", 1), ("m", 1), ("s", -2))))


class FaultTests(unittest.TestCase):
    def test_column(self):
        with self.assertRaises(SyntaxFault) as caught:
            parse("2 * (3 + )")
        self.assertEqual(caught.exception.column, 10)

    def test_bad_lines(self):
        for text in ("", "2 +", "2 furlong", "m = 3", "3 m^x", "(2", "2 $ 3"):
            with self.subTest(text=text), self.assertRaises(SyntaxFault):
                parse(text)
