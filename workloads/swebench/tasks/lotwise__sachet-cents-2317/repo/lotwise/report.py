"""Reports over a ledger: valuation, cost of goods and a reconciliation."""

from .ledger import ISSUE, RECEIPT, REVERSAL
from .money import Money, add_up

_SIGN = {RECEIPT: 1, ISSUE: -1, REVERSAL: 1}


def valuation(ledger):
    """(sku, units, value) for every article, ready to print."""
    return [(sku, ledger.on_hand(sku), ledger.value(sku))
            for sku in ledger.skus()]


def cost_of_goods(ledger, first_day, last_day):
    """Cost of everything issued in those days, less what was reversed."""
    total = Money()
    for entry in ledger.entries:
        if first_day <= entry.day <= last_day:
            if entry.kind == ISSUE:
                total += entry.cost
            elif entry.kind == REVERSAL:
                total -= entry.cost
    return total


def reconcile(ledger):
    """Complaints about articles whose journal and shelf disagree."""
    complaints = []
    for sku in ledger.skus():
        units, value = 0, Money()
        for entry in ledger.entries:
            if entry.sku == sku:
                sign = _SIGN[entry.kind]
                units += sign * entry.qty
                value += Money(sign * entry.cost.cents)
        shelf = (ledger.on_hand(sku), ledger.value(sku))
        if shelf != (units, value):
            complaints.append("%s: journal %d for %s, shelf %d for %s"
                              % ((sku, units, value) + shelf))
    return complaints


def render(ledger):
    """The valuation as a table of text."""
    rows = valuation(ledger)
    lines = ["%-12s %8s %12s" % ("article", "units", "value")]
    lines += ["%-12s %8d %12s" % row for row in rows]
    lines.append("%-12s %8s %12s"
                 % ("total", "", add_up(value for _, _, value in rows)))
    return "\n".join(lines)
