"""How long tools take, learnt as they end, and how long it pays to keep a context while one runs. No clock here.

Keeping c tokens for T seconds costs c·T token·seconds; computing them again stops the worker's whole pool of C tokens
for c ÷ rate seconds. So a context that is found again is worth C ÷ rate seconds of keeping it (the *break-even
time*), and the best time to keep it for follows from the durations that were seen. Continuum (arXiv 2511.02230)
chooses its time to live by a sum of the same kind.
"""

from __future__ import annotations

import bisect
from collections import deque

REMEMBERED = 256
"""Durations kept of each tool."""
ENOUGH = 16
"""Durations of a tool from which on they are trusted; the answer is worked out anew after as many further ones."""
MOST_TOOLS = 512
"""Tools told apart. Those beyond count as the tool without a name."""


class Durations:
    """The last ``REMEMBERED`` durations of one tool, in seconds."""

    __slots__ = ("_best", "_fresh", "_recent", "_sorted")

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []
        self._best: dict[float, float] = {}
        self._fresh = 0

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, seconds: float) -> None:
        if len(self._recent) == REMEMBERED:
            del self._sorted[bisect.bisect_left(self._sorted, self._recent.popleft())]
        self._recent.append(seconds)
        bisect.insort(self._sorted, seconds)
        self._fresh += 1
        if self._fresh == ENOUGH:
            self._fresh = 0
            self._best.clear()

    def keep_for(self, worth_s: float) -> float:
        """The τ with the largest P(T ≤ τ)·``worth_s`` − E[min(T, τ)]; 0 if keeping never pays. Amortised O(1)."""
        if worth_s not in self._best:
            best = gain = passed = 0.0
            count = len(self._sorted)
            for rank, seconds in enumerate(self._sorted, 1):
                passed += seconds
                found = rank * worth_s - passed - (count - rank) * seconds
                if found >= gain:
                    best, gain = seconds, found
            # Longer than anything seen: nothing is known of what is left, so once more as if nothing were known.
            self._best[worth_s] = best + worth_s if count and best == self._sorted[-1] else best
        return self._best[worth_s]


class ToolTimes:
    """Durations by the tool's name; ``""`` stands for whatever lies between two calls when no name is told."""

    def __init__(self) -> None:
        self._tools: dict[str, Durations] = {}
        self._all = Durations()

    def add(self, tool: str, seconds: float) -> None:
        """A tool ended after ``seconds``."""
        self._all.add(seconds)
        known = self._tools.get(tool)
        if known is None and len(self._tools) < MOST_TOOLS:
            known = self._tools[tool] = Durations()
        if known is not None:
            known.add(seconds)

    def keep_for(self, tool: str, worth_s: float) -> float:
        """Seconds for which a context is best kept while ``tool`` runs, if finding it again is worth ``worth_s``.

        Before anything is known it is ``worth_s`` itself: whatever the durations turn out to be, that costs at most
        twice as much as knowing them would.
        """
        known = self._tools.get(tool)
        if known is None or len(known) < ENOUGH:
            known = self._all
        return known.keep_for(worth_s) if len(known) >= ENOUGH else worth_s
