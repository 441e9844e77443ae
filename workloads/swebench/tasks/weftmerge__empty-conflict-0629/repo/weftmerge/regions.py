"""Regions: stretches of the base in which at least one side changed something.

Hunks of the two sides that overlap or touch belong to one region; between two
regions there is always an unchanged base line.
"""


class Region:
    """The base lines ``lo:hi`` and the hunks of both sides within them."""

    def __init__(self, lo, hi):
        self.lo = lo
        self.hi = hi
        self.ours = []
        self.theirs = []

    def touches(self, hunk):
        return hunk.base_lo <= self.hi

    def add(self, hunk, is_ours):
        self.hi = max(self.hi, hunk.base_hi)
        (self.ours if is_ours else self.theirs).append(hunk)

    def lines(self, hunks, base, side):
        """Return the region's lines as *side* has them."""
        out = []
        at = self.lo
        for hunk in hunks:
            out += base[at:hunk.base_lo]
            out += side[hunk.side_lo:hunk.side_hi]
            at = hunk.base_hi
        return out + base[at:self.hi]


def regions(ours, theirs):
    """Group the hunks of both sides; yields regions from top to bottom."""
    pending = [(hunk, True) for hunk in ours] + [(hunk, False) for hunk in theirs]
    pending.sort(key=lambda pair: (pair[0].base_lo, pair[0].base_hi))
    region = None
    for hunk, is_ours in pending:
        if region is None or not region.touches(hunk):
            if region is not None:
                yield region
            region = Region(hunk.base_lo, hunk.base_hi)
        region.add(hunk, is_ours)
    if region is not None:
        yield region
