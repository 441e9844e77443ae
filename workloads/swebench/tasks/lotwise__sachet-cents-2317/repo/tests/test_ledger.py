import unittest

from lotwise import Ledger, LedgerError, Money, ShortageError
from lotwise.report import cost_of_goods, reconcile, render


class LedgerTests(unittest.TestCase):
    def setUp(self):
        self.book = Ledger()
        self.book.receive(1, "TEA", 10, Money.parse("5.00"))
        self.book.receive(2, "TEA", 10, Money.parse("7.00"))

    def test_issue_spans_lots(self):
        sale = self.book.issue(3, "TEA", 12)
        self.assertEqual(str(sale.cost), "6.40")
        self.assertEqual([cut.qty for cut in sale.slices], [10, 2])
        self.assertEqual(self.book.on_hand("TEA"), 8)

    def test_quote_equals_issue(self):
        quoted = self.book.quote("TEA", 13)
        self.assertEqual(self.book.issue(3, "TEA", 13).cost, quoted)

    def test_shortage_changes_nothing(self):
        with self.assertRaises(ShortageError) as caught:
            self.book.issue(3, "TEA", 21)
        self.assertEqual(caught.exception.available, 20)
        self.assertEqual(self.book.on_hand("TEA"), 20)

    def test_freight_follows_cost(self):
        self.book.receive_shipment(
            4, [("CUP", 3, Money(300)), ("POT", 1, Money(900))], Money(100))
        self.assertEqual(self.book.value("CUP"), Money(325))
        self.assertEqual(self.book.value("POT"), Money(975))

    def test_reverse_restores_units_and_value(self):
        sale = self.book.issue(3, "TEA", 12)
        self.book.reverse(4, sale.number)
        self.assertEqual(self.book.on_hand("TEA"), 20)
        self.assertEqual(str(self.book.value("TEA")), "12.00")

    def test_reverse_works_once_and_for_issues_only(self):
        sale = self.book.issue(3, "TEA", 1)
        self.book.reverse(4, sale.number)
        for number in (sale.number, 1, 99):
            with self.assertRaises(LedgerError):
                self.book.reverse(5, number)


class ReportTests(unittest.TestCase):
    def test_cost_of_goods_counts_reversals(self):
        book = Ledger()
        book.receive(1, "TEA", 4, Money(400))
        sale = book.issue(2, "TEA", 3)
        book.reverse(3, sale.number)
        self.assertEqual(cost_of_goods(book, 1, 2), Money(300))
        self.assertEqual(cost_of_goods(book, 1, 3), Money())

    def test_reconcile_and_render(self):
        book = Ledger()
        book.receive(1, "TEA", 4, Money(410))
        book.issue(2, "TEA", 1)
        self.assertEqual(reconcile(book), [])
        self.assertEqual(render(book).splitlines()[-1].split(), ["total", "3.07"])
