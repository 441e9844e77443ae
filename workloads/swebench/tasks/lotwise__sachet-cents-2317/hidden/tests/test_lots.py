import unittest

from lotwise import LedgerError, Lot, Money
from lotwise.lots import plan


class LotTests(unittest.TestCase):
    def setUp(self):
        self.lot = Lot(1, "JAM", 1, 3, Money(1000))

    def test_units_of_a_lot_add_up(self):
        costs = [self.lot.take(1).cost.cents for _ in range(3)]
        self.assertEqual(sorted(costs), [333, 333, 334])
        self.assertEqual(self.lot.cost_left, Money())

    def test_take_refuses_more_than_is_left(self):
        self.lot.take(2)
        with self.assertRaises(LedgerError):
            self.lot.take(2)
        self.assertEqual(self.lot.qty_left, 1)

    def test_put_back_restores_the_lot(self):
        cut = self.lot.take(1)
        self.lot.put_back(cut)
        self.assertEqual((self.lot.qty_left, self.lot.cost_left),
                         (3, Money(1000)))

    def test_put_back_refuses_units_that_never_left(self):
        other = Lot(1, "JAM", 1, 9, Money(900)).take(2)
        with self.assertRaises(LedgerError):
            self.lot.put_back(other)


class CentTests(unittest.TestCase):
    def setUp(self):
        self.lot = Lot(1, "SPICE", 1, 12, Money(30))

    def test_every_unit_costs_its_share(self):
        costs = [self.lot.take(1).cost.cents for _ in range(12)]
        self.assertEqual(sum(costs), 30)
        self.assertEqual(set(costs), {2, 3})

    def test_what_is_left_is_never_worth_less_than_nothing(self):
        lot = Lot(1, "PIN", 1, 10, Money(5))
        for _ in range(10):
            lot.take(1)
            self.assertGreaterEqual(lot.cost_left, Money())
        self.assertEqual(lot.cost_left, Money())

    def test_last_slice_comes_back_at_its_own_cost(self):
        cuts = [self.lot.take(5), self.lot.take(5), self.lot.take(1)]
        left = self.lot.cost_left
        last = self.lot.take(1)
        self.lot.put_back(last)
        self.assertEqual(self.lot.cost_left, left)
        for cut in cuts:
            self.lot.put_back(cut)
        self.assertEqual((self.lot.qty_left, self.lot.cost_left),
                         (12, Money(30)))

    def test_half_of_an_even_lot_goes_and_returns(self):
        lot = Lot(1, "CUP", 1, 4, Money(400))
        cut = lot.take(2)
        self.assertEqual(cut.cost, Money(200))
        lot.put_back(cut)
        self.assertEqual(lot.cost_left, Money(400))


class PlanTests(unittest.TestCase):
    def test_oldest_first_whatever_the_order_of_entry(self):
        late, early = Lot(1, "JAM", 5, 4, Money(8)), Lot(2, "JAM", 2, 4, Money(9))
        pairs, missing = plan([late, early], 6)
        self.assertEqual(pairs, [(early, 4), (late, 2)])
        self.assertEqual(missing, 0)

    def test_missing_units_are_counted(self):
        self.assertEqual(plan([], 6), ([], 6))
