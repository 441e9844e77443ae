"""Tasks that nobody waits for, but that somebody sees to the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from thunderctl.environments.backend import to_the_end

T = TypeVar("T")


class Background:
    """A failure of one of them is no news here: whoever waits for the task has it, else a lease's state tells."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin ``work``."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._landed)
        return task

    def _landed(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    async def finish(self) -> None:
        """Wait until none is left, also if cancelled meanwhile."""
        while self._tasks:
            await to_the_end(asyncio.wait(set(self._tasks)))
