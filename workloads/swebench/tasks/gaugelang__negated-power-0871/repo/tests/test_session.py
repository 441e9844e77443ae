"""Values, variables and units, seen from outside."""

import unittest

from gaugelang import EvaluationError, Session


class ValueTests(unittest.TestCase):
    def setUp(self):
        self.sheet = Session()

    def test_speed(self):
        self.sheet.run("speed = 90 km / 2 h")
        self.assertEqual(self.sheet.show("speed to m/s"), "12.5 m/s")

    def test_temperatures_below_zero(self):
        self.assertEqual(self.sheet.show("-40 degC to degF"), "-40 degF")
        self.assertEqual(self.sheet.show("20 degC - -5 degC"), "25 K")

    def test_negated_temperature(self):
        self.assertEqual(self.sheet.show("-(5 degC)"), "-278.15 K")

    def test_signs(self):
        self.sheet.run("x = 3")
        self.assertEqual(self.sheet.show("-x^2 + 1"), "-8")
        self.assertEqual(self.sheet.show("(-3)^2"), "9")
        self.assertEqual(self.sheet.show("2^-2 * x"), "0.75")
        self.assertEqual(self.sheet.show("5 - -x"), "8")

    def test_functions(self):
        self.assertEqual(self.sheet.show("max(-2 m, 30 cm, -1 km)"), "0.3 m")
        self.assertEqual(self.sheet.show("floor(-7 / 2)"), "-4")

    def test_dimensions_must_match(self):
        for line in ("1 m + 1 s", "1 m to s", "2^(1 m)", "5 * degC", "1 / 0", "nosuch"):
            with self.subTest(line=line), self.assertRaises(EvaluationError):
                self.sheet.run(line)


class ScriptTests(unittest.TestCase):
    def test_script(self):
        text = "# a lift\nmass = 70 kg\n\nmass * 10 m / s^2 to N  # weight\n"
        self.assertEqual(Session().script(text), ["700 N"])

    def test_error_names_the_line(self):
        with self.assertRaises(EvaluationError) as caught:
            Session().script("x = 1\nx + 1 m\n")
        self.assertTrue(str(caught.exception).startswith("line 2: "))
