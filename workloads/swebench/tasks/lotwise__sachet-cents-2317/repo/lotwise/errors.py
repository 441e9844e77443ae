"""The errors that callers of lotwise may want to tell apart."""


class LedgerError(Exception):
    """A posting that the ledger refuses; nothing has been changed."""


class MoneyError(ValueError):
    """An amount that cannot be read or divided."""


class ShortageError(LedgerError):
    """More units were asked for than are on the shelf."""

    def __init__(self, sku, wanted, available):
        super().__init__("%s: %d wanted, %d on hand" % (sku, wanted, available))
        self.sku = sku
        self.wanted = wanted
        self.available = available
