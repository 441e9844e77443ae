import unittest

from centbridge import reconcile, render_report
from tests.helpers import records


class ReportTests(unittest.TestCase):
    def test_report_with_remarks_and_open_items(self):
        outcome = reconcile(records((10, "80.00"), (11, "-9.50"), (12, "300.00", "x-1")),
                            records((8, "80.03"), (11, "-9.50"), (20, "1200.00")))
        self.assertEqual(render_report(outcome).splitlines(), [
            "Matched: 2",
            "  line 1 = entry 1 [difference -0.03; days +2]",
            "  line 2 = entry 2",
            "Open on the statement: 1",
            "  3: 2024-03-12 300.00 X1",
            "Open on the ledger: 1",
            "  3: 2024-03-20 1,200.00",
            "Net difference: -0.03",
        ])

    def test_signed_differences_offset_each_other(self):
        outcome = reconcile(records((10, "80.00"), (10, "50.00")),
                            records((12, "80.03"), (10, "49.97")))
        self.assertIn("  line 1 = entry 1 [difference -0.03; days -2]", render_report(outcome))
        self.assertEqual(outcome.net_difference, 0)


if __name__ == "__main__":
    unittest.main()
