"""What a cache refuses."""


class TooLarge(ValueError):
    """An entry that is larger than the whole budget."""

    def __init__(self, key, size, budget):
        self.key = key
        self.size = size
        super().__init__("%s has %d bytes; the budget is %d" % (key, size, budget))
