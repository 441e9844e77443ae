"""Lots: what one receipt put on the shelf, and the slices cut from it."""

from dataclasses import dataclass

from .errors import LedgerError
from .money import Money


@dataclass(frozen=True)
class Slice:
    """Units that left one lot together, with the cost they carried."""

    lot_no: int
    qty: int
    cost: Money


class Lot:
    """The units of one receipt line and the money paid for them."""

    def __init__(self, number, sku, day, qty, cost):
        if qty <= 0:
            raise LedgerError("a lot needs at least one unit, not %d" % qty)
        if cost < Money():
            raise LedgerError("a lot cannot cost %s" % cost)
        self.number = number
        self.sku = sku
        self.day = day
        self.qty = qty
        self.cost = cost
        self.qty_left = qty
        self.cost_left = cost

    def __repr__(self):
        return "Lot(%d, %r, %d of %d left, %s of %s left)" % (
            self.number, self.sku, self.qty_left, self.qty,
            self.cost_left, self.cost)

    def cost_of(self, qty):
        """What `qty` units of this lot cost; the last units carry the rest."""
        if qty == self.qty_left:
            return self.cost_left
        return self.cost.share(qty, self.qty)

    def take(self, qty):
        """Cut `qty` units off the lot."""
        if not 0 < qty <= self.qty_left:
            raise LedgerError("cannot take %d of %r" % (qty, self))
        cut = Slice(self.number, qty, self.cost_of(qty))
        self.qty_left -= cut.qty
        self.cost_left -= cut.cost
        return cut

    def put_back(self, cut):
        """Return a slice that was taken from this lot earlier."""
        if cut.lot_no != self.number:
            raise LedgerError("slice of lot %d, not of %r" % (cut.lot_no, self))
        if self.qty_left + cut.qty > self.qty:
            raise LedgerError("%d units never left %r" % (cut.qty, self))
        self.cost_left += self.cost_of(cut.qty)
        self.qty_left += cut.qty


def plan(lots, wanted):
    """Pair the oldest lots with the units each must give, oldest first.

    Returns (pairs, missing): `missing` units could not be found.
    """
    pairs = []
    for lot in sorted(lots, key=lambda lot: (lot.day, lot.number)):
        if wanted == 0:
            break
        part = min(wanted, lot.qty_left)
        if part:
            pairs.append((lot, part))
            wanted -= part
    return pairs, wanted
