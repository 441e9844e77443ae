import unittest

from tickplan.fields import (DAY, HOUR, MINUTE, MONTH, WEEKDAY, CronError,
                             parse_field)


class FieldTests(unittest.TestCase):
    def test_lists_ranges_and_steps(self):
        for spec, text, values in [
                (MINUTE, "*/20", (0, 20, 40)), (HOUR, "8-12/2,23", (8, 10, 12, 23)),
                (DAY, "25/3", (25, 28, 31)), (MONTH, "Jan,jul-SEP", (1, 7, 8, 9))]:
            self.assertEqual(parse_field(spec, text).values, values)

    def test_seven_is_sunday(self):
        self.assertEqual(parse_field(WEEKDAY, "5-7").values, (0, 5, 6))

    def test_nonsense_is_refused(self):
        for text in ["", "61", "5-1", "*/0", "x", "1-", "3/"]:
            with self.assertRaises(CronError):
                parse_field(MINUTE, text)
