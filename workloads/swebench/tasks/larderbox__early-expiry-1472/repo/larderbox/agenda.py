"""The agenda: which key has to be looked at when.

A binary heap of ``(deadline, number, key)``.  The running number keeps equal
deadlines in the order of their arrival and keys from being compared.  Removing
something from the middle of a heap is costly, so nothing ever is: a row stays
until its time has come.
"""

import heapq
from itertools import count


class Agenda:
    """A queue of keys ordered by deadline."""

    def __init__(self):
        self._heap = []
        self._numbers = count()

    def __len__(self):
        return len(self._heap)

    def note(self, deadline, key):
        """Put *key* down for *deadline*; None means never, and is ignored."""
        if deadline is not None:
            heapq.heappush(self._heap, (deadline, next(self._numbers), key))

    def next_deadline(self):
        """Return the earliest deadline noted, or None."""
        return self._heap[0][0] if self._heap else None

    def take_due(self, now):
        """Remove and return the keys whose deadline has come, oldest first."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        return due

    def clear(self):
        self._heap.clear()
