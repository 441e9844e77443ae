import unittest
from decimal import Decimal

from centbridge import Rules, reconcile
from tests.helpers import records


class PairTests(unittest.TestCase):
    def test_reference_comes_before_closeness(self):
        outcome = reconcile(records((10, "80.00", "inv-7")),
                            records((10, "80.00"), (6, "79.97", "INV 7")))
        self.assertEqual(outcome.pairs(), [(1, (2,))])

    def test_exact_amount_is_preferred(self):
        outcome = reconcile(records((10, "80.00")), records((10, "79.97"), (10, "80.00")))
        self.assertEqual(outcome.pairs(), [(1, (2,))])

    def test_most_recent_entry_is_preferred(self):
        outcome = reconcile(records((10, "80.00")), records((5, "80.00"), (8, "80.00")))
        self.assertEqual(outcome.pairs(), [(1, (2,))])

    def test_file_order_breaks_ties(self):
        outcome = reconcile(records((10, "5.00"), (10, "5.00")),
                            records((10, "5.00"), (10, "5.00")))
        self.assertEqual(outcome.pairs(), [(1, (1,)), (2, (2,))])

    def test_tolerance_and_window_are_inclusive(self):
        rules = Rules(tolerance=Decimal("0.10"), days_back=5, days_ahead=2)
        for day, amount, expected in ((5, "80.10", 1), (12, "79.90", 1), (4, "80.00", 0),
                                      (13, "80.00", 0), (10, "80.11", 0), (10, "79.89", 0)):
            outcome = reconcile(records((10, "80.00")), records((day, amount)), rules)
            self.assertEqual(len(outcome.matches), expected, (day, amount))


class GroupTests(unittest.TestCase):
    def test_line_stands_for_two_entries(self):
        outcome = reconcile(records((10, "100.00")),
                            records((9, "60.00"), (10, "40.00"), (10, "-40.00")))
        self.assertEqual(outcome.pairs(), [(1, (1, 2))])
        self.assertEqual([entry.number for entry in outcome.open_entries], [3])

    def test_group_size_is_a_limit(self):
        entries = records((10, "25.00"), (10, "25.00"), (10, "25.00"), (10, "25.00"))
        lines = records((10, "100.00"))
        self.assertEqual(reconcile(lines, entries).pairs(), [])
        self.assertEqual(reconcile(lines, entries, Rules(group_size=4)).pairs(),
                         [(1, (1, 2, 3, 4))])


if __name__ == "__main__":
    unittest.main()
