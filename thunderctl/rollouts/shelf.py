"""Where complete groups wait for the trainer. How many wait says when no new group may begin."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from thunderctl.rollouts.schema import Group


class Shelf:
    """One side puts, the other takes; both in one event loop."""

    def __init__(self) -> None:
        self._groups: deque[Group] = deque()
        self._news = asyncio.Event()
        self._over = False
        self.taken: Callable[[], None] = lambda: None
        """To be told when a group was taken."""

    @property
    def waiting(self) -> int:
        """Complete groups that nobody has taken yet."""
        return len(self._groups)

    def put(self, group: Group) -> None:
        self._groups.append(group)
        self._news.set()

    def close(self) -> None:
        """No further group comes."""
        self._over = True
        self._news.set()

    async def take(self) -> Group | None:
        """The next group, in the order in which they were complete; ``None`` once no further one comes."""
        while not self._groups:
            if self._over:
                return None
            self._news.clear()
            await self._news.wait()
        group = self._groups.popleft()
        self.taken()
        return group
