import unittest
from datetime import datetime

from tickplan import CronError, CronExpr


class ExprTests(unittest.TestCase):
    def test_next_after_is_strict(self):
        expr = CronExpr("0 9 * * *")
        self.assertEqual(expr.next_after(datetime(2025, 5, 1, 9)),
                         datetime(2025, 5, 2, 9))
        self.assertEqual(expr.next_after(datetime(2025, 5, 1, 8, 59, 59)),
                         datetime(2025, 5, 1, 9))

    def test_first_from_includes_the_start(self):
        start = datetime(2025, 5, 1, 9)
        self.assertEqual(CronExpr("0 9 * * *").first_from(start), start)

    def test_last_before_is_strict(self):
        expr = CronExpr("15,45 9 * * *")
        self.assertEqual(expr.last_before(datetime(2025, 5, 1, 9, 15)),
                         datetime(2025, 4, 30, 9, 45))
        self.assertEqual(expr.last_before(datetime(2025, 5, 1, 9, 45, 1)),
                         datetime(2025, 5, 1, 9, 45))

    def test_either_day_rule(self):
        expr = CronExpr("0 0 13 * fri")
        self.assertEqual(expr.next_after(datetime(2025, 5, 10)),
                         datetime(2025, 5, 13))
        self.assertEqual(expr.next_after(datetime(2025, 5, 13)),
                         datetime(2025, 5, 16))

    def test_leap_day_and_impossible_day(self):
        self.assertEqual(CronExpr("0 0 29 2 *").next_after(datetime(2025, 1, 1)),
                         datetime(2028, 2, 29))
        self.assertIsNone(CronExpr("0 0 30 2 *").next_after(datetime(2025, 1, 1)))

    def test_year_end_and_alias(self):
        self.assertEqual(CronExpr("@monthly").next_after(datetime(2024, 12, 31)),
                         datetime(2025, 1, 1))
        self.assertEqual(CronExpr("@yearly").last_before(datetime(2025, 1, 1)),
                         datetime(2024, 1, 1))

    def test_field_count(self):
        with self.assertRaises(CronError):
            CronExpr("* * * *")
