"""Line differences between two lists of lines.

The algorithm is the greedy one of Myers, run on what is left after equal
lines at both ends have been set aside.
"""

from collections import namedtuple


class Hunk(namedtuple("Hunk", "base_lo base_hi side_lo side_hi")):
    """Lines ``base_lo:base_hi`` of the base became ``side_lo:side_hi``."""

    __slots__ = ()

    @property
    def is_insertion(self):
        return self.base_lo == self.base_hi


def diff(base, side):
    """Return the hunks that turn *base* into *side*, in order.

    Between two hunks there is always at least one line in common.
    """
    lo = 0
    shorter = min(len(base), len(side))
    while lo < shorter and base[lo] == side[lo]:
        lo += 1
    tail = 0
    while tail < shorter - lo and base[-1 - tail] == side[-1 - tail]:
        tail += 1
    pairs = _common(base[lo:len(base) - tail], side[lo:len(side) - tail])
    hunks = []
    b, s = lo, lo
    for x, y in pairs:
        if (lo + x, lo + y) != (b, s):
            hunks.append(Hunk(b, lo + x, s, lo + y))
        b, s = lo + x + 1, lo + y + 1
    if (b, s) != (len(base) - tail, len(side) - tail):
        hunks.append(Hunk(b, len(base) - tail, s, len(side) - tail))
    return hunks


def _common(a, b):
    """Return the index pairs of a longest common subsequence."""
    reach = {1: 0}
    history = []
    for cost in range(len(a) + len(b) + 1):
        history.append(dict(reach))
        for k in range(-cost, cost + 1, 2):
            if k == -cost or (k != cost and reach[k - 1] < reach[k + 1]):
                x = reach[k + 1]
            else:
                x = reach[k - 1] + 1
            while x < len(a) and x - k < len(b) and a[x] == b[x - k]:
                x += 1
            reach[k] = x
            if x >= len(a) and x - k >= len(b):
                return _walk_back(history, len(a), len(b))
    return []


def _walk_back(history, x, y):
    """Collect the diagonal steps on the way back to the origin."""
    pairs = []
    for cost in range(len(history) - 1, -1, -1):
        reach = history[cost]
        k = x - y
        if k == -cost or (k != cost and reach[k - 1] < reach[k + 1]):
            before = k + 1
        else:
            before = k - 1
        old_x = reach[before] if cost else 0
        old_y = old_x - before if cost else 0
        while x > old_x and y > old_y:
            x, y = x - 1, y - 1
            pairs.append((x, y))
        x, y = old_x, old_y
    pairs.reverse()
    return pairs
