"""Virtual time: a queue of things that will happen, and the moment that has been reached. It knows nothing else."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any


class Clock:
    """Seconds since the simulation began. What is due at one moment happens in the order it was asked for."""

    __slots__ = ("now", "_due", "_serial", "_stopped")

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0
        self._stopped = False

    def call_at(self, when: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call ``action(*arguments)`` when ``when`` has come; a moment that has passed means now."""
        self._serial += 1
        heapq.heappush(self._due, (max(when, self.now), self._serial, action, arguments))

    def call_in(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        self.call_at(self.now + seconds, action, *arguments)

    @property
    def idle(self) -> bool:
        """Nothing is due any more."""
        return not self._due

    def run(self, until: float = math.inf) -> None:
        """Let things happen until nothing is due, :meth:`stop` is called, or ``until`` has passed."""
        due = self._due
        while due and not self._stopped and due[0][0] <= until:
            self.now, _, action, arguments = heapq.heappop(due)
            action(*arguments)
        if not self._stopped and until < math.inf:
            self.now = until

    def stop(self) -> None:
        """End :meth:`run` after the present action."""
        self._stopped = True
