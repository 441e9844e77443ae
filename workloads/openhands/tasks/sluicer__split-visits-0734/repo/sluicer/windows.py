"""Where an event belongs: kinds of windows over time."""

import math
from collections import namedtuple

Placement = namedtuple("Placement", "start end panes")
"""A window for an event: its bounds, and the panes that exist for it already."""


class _Grid:
    """Windows whose bounds do not depend on events."""

    def bounds(self, at):
        raise NotImplementedError

    def place(self, event, panes):
        """One placement for each window that the event lies in."""
        found = []
        for start, end in self.bounds(event.at):
            there = [pane for pane in panes if pane.start == start]
            found.append(Placement(start, end, there))
        return found

    def closes_at(self, end):
        """When a window that ends at ``end`` cannot change any more, by event time."""
        return end

    def own_end(self, event):
        return float("inf")


class Fixed(_Grid):
    """Windows of one size, side by side."""

    def __init__(self, size):
        if size <= 0:
            raise ValueError("size must be above 0, not %r" % size)
        self.size = size

    def bounds(self, at):
        start = math.floor(at / self.size) * self.size
        return [(start, start + self.size)]


class Sliding(_Grid):
    """Windows of one size that begin every ``step``; an event lies in several."""

    def __init__(self, size, step):
        if not 0 < step <= size:
            raise ValueError("step must be above 0 and at most size, not %r" % step)
        self.size = size
        self.step = step

    def bounds(self, at):
        start = math.floor(at / self.step) * self.step
        found = []
        while start > at - self.size:
            found.append((start, start + self.size))
            start -= self.step
        return found[::-1]


class Session:
    """Windows made by the events themselves: whatever is at most ``gap`` apart belongs together."""

    def __init__(self, gap):
        if gap <= 0:
            raise ValueError("gap must be above 0, not %r" % gap)
        self.gap = gap

    def place(self, event, panes):
        """The session that the event touches is stretched to it, or a new one begins."""
        for pane in panes:
            if pane.start - self.gap <= event.at <= pane.end + self.gap:
                return [Placement(min(pane.start, event.at), max(pane.end, event.at), [pane])]
        return [Placement(event.at, event.at, [])]

    def closes_at(self, end):
        """A session may still grow for as long as an event within the gap may come."""
        return end + self.gap

    def own_end(self, event):
        return event.at + self.gap
