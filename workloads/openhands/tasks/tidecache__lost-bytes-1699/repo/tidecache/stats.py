"""What a cache counts."""


class Stats:
    """Numbers since the beginning."""

    def __init__(self):
        self.hit = 0
        self.missed = 0
        self.evicted = 0
        self.expired = 0

    @property
    def hit_rate(self):
        """Share of successful ``get`` calls; 0 before the first one."""
        asked = self.hit + self.missed
        return self.hit / asked if asked else 0.0

    def as_dict(self):
        return {"hit": self.hit, "missed": self.missed, "evicted": self.evicted, "expired": self.expired}
