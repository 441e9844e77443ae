"""First-in, first-out stock valuation."""

from .errors import LedgerError, MoneyError, ShortageError
from .ledger import Entry, Ledger
from .lots import Lot, Slice
from .money import Money

__all__ = ["Entry", "Ledger", "LedgerError", "Lot", "Money", "MoneyError",
           "ShortageError", "Slice"]
