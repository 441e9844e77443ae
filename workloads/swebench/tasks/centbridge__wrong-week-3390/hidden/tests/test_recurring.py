import unittest
from decimal import Decimal

from centbridge import read_ledger, read_statement, reconcile, render_report
from tests.helpers import records

WEEKLY = """date,reference,amount,text
2024-03-04,,(25.00),cleaning
2024-03-11,,(25.00),cleaning
2024-03-18,,(25.00),cleaning
"""


class RecurringTests(unittest.TestCase):
    def test_weekly_payments_match_their_own_day(self):
        outcome = reconcile(read_statement(WEEKLY), read_ledger(WEEKLY))
        self.assertEqual(render_report(outcome).splitlines(), [
            "Matched: 3",
            "  line 1 = entry 1",
            "  line 2 = entry 2",
            "  line 3 = entry 3",
            "Open on the statement: 0",
            "Open on the ledger: 0",
            "Net difference: 0.00",
        ])

    def test_late_bookings_do_not_shift_the_series(self):
        # The second entry was booked a day late, the third one two days early.
        outcome = reconcile(records((4, "-25.00"), (11, "-25.00"), (18, "-25.00")),
                            records((4, "-25.00"), (12, "-25.00"), (16, "-25.00")))
        self.assertEqual(outcome.pairs(), [(1, (1,)), (2, (2,)), (3, (3,))])

    def test_report_keeps_the_signs(self):
        outcome = reconcile(records((10, "80.00"), (12, "50.00")),
                            records((12, "80.04"), (11, "49.99")))
        report = render_report(outcome).splitlines()
        self.assertEqual(report[1:3], ["  line 1 = entry 1 [difference -0.04; days -2]",
                                       "  line 2 = entry 2 [difference +0.01; days +1]"])
        self.assertEqual(outcome.net_difference, Decimal("-0.03"))


if __name__ == "__main__":
    unittest.main()
