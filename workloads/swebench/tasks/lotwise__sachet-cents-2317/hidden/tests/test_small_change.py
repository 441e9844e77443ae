import unittest

from lotwise import Ledger, Money
from lotwise.money import add_up
from lotwise.report import reconcile


def spice_rack():
    book = Ledger()
    book.receive(1, "SPICE", 12, Money.parse("0.30"))
    return book


class OneByOneTests(unittest.TestCase):
    def test_no_posting_below_zero(self):
        book = spice_rack()
        sales = [book.issue(2, "SPICE", 1) for _ in range(12)]
        self.assertGreaterEqual(min(sale.cost for sale in sales), Money(2))
        self.assertLessEqual(max(sale.cost for sale in sales), Money(3))
        self.assertEqual(add_up(sale.cost for sale in sales), Money(30))
        self.assertEqual(book.value("SPICE"), Money())

    def test_quote_names_the_next_posting(self):
        book = spice_rack()
        for _ in range(12):
            quoted = book.quote("SPICE", 1)
            self.assertEqual(book.issue(2, "SPICE", 1).cost, quoted)

    def test_whole_lot_at_once(self):
        book = spice_rack()
        self.assertEqual(book.issue(2, "SPICE", 12).cost, Money(30))
        self.assertEqual(reconcile(book), [])


class ReversalTests(unittest.TestCase):
    def test_last_issue_reversed(self):
        book = spice_rack()
        for _ in range(11):
            book.issue(2, "SPICE", 1)
        before = book.value("SPICE")
        book.reverse(4, book.issue(3, "SPICE", 1).number)
        self.assertEqual(book.value("SPICE"), before)
        self.assertEqual(reconcile(book), [])

    def test_first_issue_reversed_after_others(self):
        book = Ledger()
        book.receive(1, "JAM", 3, Money.parse("10.00"))
        sales = [book.issue(2, "JAM", 1) for _ in range(3)]
        for sale in sales:
            book.reverse(3, sale.number)
            self.assertEqual(reconcile(book), [])
        self.assertEqual(book.value("JAM"), Money(1000))

    def test_busy_shelf_stays_reconciled(self):
        book = Ledger()
        for day, (qty, cents) in enumerate([(7, 10), (40, 99), (3, 1000)]):
            book.receive(day, "MIX", qty, Money(cents))
        state, open_issues = 11, []
        for _ in range(200):
            state = (state * 1103515245 + 12345) % 2 ** 31
            pick = state // 65536
            qty = pick % 5 + 1
            if open_issues and (pick % 3 == 0 or book.on_hand("MIX") < qty):
                number = open_issues.pop(pick % len(open_issues))
                book.reverse(9, number)
            else:
                sale = book.issue(9, "MIX", qty)
                self.assertGreaterEqual(sale.cost, Money())
                open_issues.append(sale.number)
            self.assertEqual(reconcile(book), [])
            self.assertTrue(all(lot.cost_left >= Money()
                                for lot in book.lots("MIX")))
        for number in open_issues:
            book.reverse(9, number)
        self.assertEqual(book.value("MIX"), Money(1109))
