"""The sign in front of a number, against powers, units and spaces."""

import unittest

from gaugelang import Session, format_source, parse


def show(line, **variables):
    sheet = Session()
    for name, value in variables.items():
        sheet.run(f"{name} = {value}")
    return sheet.show(line)


class PowerTests(unittest.TestCase):
    def test_number_at_the_start(self):
        self.assertEqual(show("-2^2"), "-4")
        self.assertEqual(show("-1.5^2 + 1"), "-1.25")

    def test_number_behind_an_operator(self):
        self.assertEqual(show("4 * -2^2"), "-16")
        self.assertEqual(show("1 - -2^2"), "5")
        self.assertEqual(show("8 / -2^2"), "-2")

    def test_number_in_an_exponent(self):
        self.assertEqual(show("2^-2^2"), "0.0625")

    def test_number_inside_brackets(self):
        self.assertEqual(show("(-3^2)"), "-9")
        self.assertEqual(show("max(-3^2, -10)"), "-9")

    def test_number_behind_an_assignment(self):
        self.assertEqual(show("x", x="-3^2"), "-9")

    def test_number_and_variable_agree(self):
        for line in ("-{}^2", "-{}^3", "1 - {}^2", "2 * -{}^2", "({} - 1) * -{}^2"):
            with self.subTest(line=line):
                self.assertEqual(show(line.replace("{}", "3")),
                                 show(line.replace("{}", "x"), x="3"))

    def test_explicit_brackets_decide(self):
        self.assertEqual(show("(-2)^2"), "4")
        self.assertEqual(show("(-2)^3"), "-8")
        self.assertEqual(show("-(3 m)^2"), "-9 m^2")

    def test_exponent_with_a_sign(self):
        self.assertEqual(show("2^-2"), "0.25")
        self.assertEqual(show("2^-1 * 3"), "1.5")


class UnitTests(unittest.TestCase):
    def test_temperature_below_zero(self):
        self.assertEqual(show("-5 degC to K"), "268.15 K")
        self.assertEqual(show("20 degC - -5 degC"), "25 K")
        self.assertEqual(show("max(-5 degC, -7 degC) to degC"), "-5 degC")

    def test_space_behind_the_sign(self):
        self.assertEqual(show("- 5 degC to K"), "268.15 K")
        self.assertEqual(show("20 degC - - 5 degC"), "25 K")

    def test_brackets_behind_the_sign(self):
        self.assertEqual(show("-(5 degC)"), "-278.15 K")

    def test_variable_behind_the_sign(self):
        self.assertEqual(show("-x", x="5 degC"), "-278.15 K")

    def test_unit_exponents(self):
        self.assertEqual(show("-3 m^2"), "-3 m^2")
        self.assertEqual(show("50 s^-1"), "50 s^-1")
        self.assertEqual(show("-9.81 m * 1 s^-2 to m/s^2"), "-9.81 m/s^2")


class StandardFormTests(unittest.TestCase):
    def check(self, text):
        with self.subTest(text=text):
            written = format_source(text)
            self.assertEqual(parse(written), parse(text), written)
            self.assertEqual(show(written), show(text))

    def test_sign_of_a_numeric_power(self):
        self.assertEqual(format_source("-(2^2)"), "-2^2")
        self.assertEqual(show(format_source("-(2^2)")), "-4")
        for text in ("-(2^2)", "-(2^2) * 3", "1 - (-(2^2))"):
            self.check(text)

    def test_power_of_a_negative_number(self):
        for text in ("(-3)^2", "(-3 m)^2", "-(-3)^2", "((-3)^2)^2"):
            self.check(text)

    def test_temperatures(self):
        for text in ("-5 degC", "-(5 degC)", "-(-5 degC)", "20 degC - (-5 degC)"):
            self.check(text)

    def test_signs_without_needless_brackets(self):
        self.assertEqual(format_source("2^(-3)"), "2^-3")
        self.assertEqual(format_source("x * (-3)"), "x * -3")
        self.assertEqual(format_source("x - (-3 m)"), "x - -3 m")
