"""The ledger: receipts, issues and reversals, each leaving a journal entry."""

from dataclasses import dataclass
from typing import Optional, Tuple

from .errors import LedgerError, ShortageError
from .lots import Lot, Slice, plan
from .money import Money, add_up

RECEIPT, ISSUE, REVERSAL = "receipt", "issue", "reversal"


@dataclass(frozen=True)
class Entry:
    """One line of the journal. Issues count units and cost as positive."""

    number: int
    day: int
    kind: str
    sku: str
    qty: int
    cost: Money
    slices: Tuple[Slice, ...] = ()
    reverses: Optional[int] = None


class Ledger:
    """Stock of any number of articles, valued first-in, first-out."""

    def __init__(self):
        self.entries = []
        self._lots = []
        self._reversed = set()

    # -- postings ---------------------------------------------------------

    def receive(self, day, sku, qty, cost):
        """Book one delivery of `qty` units that cost `cost` together."""
        return self.receive_shipment(day, [(sku, qty, cost)], Money())[0]

    def receive_shipment(self, day, lines, freight):
        """Book several (sku, qty, cost) lines that share a freight bill.

        Freight is spread over the lines by their cost, or by their units
        when all of them came free of charge.
        """
        if not lines:
            raise LedgerError("a shipment needs at least one line")
        weights = [cost.cents for _, _, cost in lines]
        if not any(weights):
            weights = [qty for _, qty, _ in lines]
        extras = freight.allocate(weights)
        lots = [Lot(len(self._lots) + place, sku, day, qty, cost + extra)
                for place, ((sku, qty, cost), extra)
                in enumerate(zip(lines, extras), start=1)]
        self._lots.extend(lots)
        return [self._post(day, RECEIPT, lot.sku, lot.qty, lot.cost)
                for lot in lots]

    def issue(self, day, sku, qty):
        """Take `qty` units off the shelf, oldest lots first."""
        pairs = self._plan(sku, qty)
        slices = tuple(lot.take(part) for lot, part in pairs)
        cost = add_up(cut.cost for cut in slices)
        return self._post(day, ISSUE, sku, qty, cost, slices)

    def reverse(self, day, number):
        """Undo the issue that was posted as entry `number`."""
        issue = self.entry(number)
        if issue.kind != ISSUE:
            raise LedgerError("entry %d is a %s, not an issue"
                              % (number, issue.kind))
        if number in self._reversed:
            raise LedgerError("entry %d is reversed already" % number)
        for cut in issue.slices:
            self._lots[cut.lot_no - 1].put_back(cut)
        self._reversed.add(number)
        return self._post(day, REVERSAL, issue.sku, issue.qty, issue.cost,
                          issue.slices, reverses=number)

    # -- questions --------------------------------------------------------

    def quote(self, sku, qty):
        """What an issue of `qty` units would cost right now."""
        return add_up(lot.cost_of(part) for lot, part in self._plan(sku, qty))

    def entry(self, number):
        """The journal entry with that number."""
        if not 1 <= number <= len(self.entries):
            raise LedgerError("there is no entry %d" % number)
        return self.entries[number - 1]

    def skus(self):
        """Every article ever received, in alphabetical order."""
        return sorted({lot.sku for lot in self._lots})

    def lots(self, sku):
        """All lots of an article, used up or not, in order of receipt."""
        return [lot for lot in self._lots if lot.sku == sku]

    def on_hand(self, sku):
        """Units of an article on the shelf."""
        return sum(lot.qty_left for lot in self.lots(sku))

    def value(self, sku):
        """What the units on the shelf cost."""
        return add_up(lot.cost_left for lot in self.lots(sku))

    # -- helpers ----------------------------------------------------------

    def _plan(self, sku, qty):
        if qty <= 0:
            raise LedgerError("cannot issue %d units" % qty)
        pairs, missing = plan(self.lots(sku), qty)
        if missing:
            raise ShortageError(sku, qty, qty - missing)
        return pairs

    def _post(self, day, kind, sku, qty, cost, slices=(), reverses=None):
        entry = Entry(len(self.entries) + 1, day, kind, sku, qty, cost,
                      slices, reverses)
        self.entries.append(entry)
        return entry
