"""When to look which images may go. What may go is the back-end's affair (``image_policy.py``)."""

from __future__ import annotations

import asyncio

from thunderctl.environments.backend import Backend, Progress, to_the_end
from thunderctl.environments.background import Background
from thunderctl.errors import ThunderError
from thunderctl.profile import ToolEnvironmentSpec

TIDY_S = 2.0
"""Between the end of an environment and the look at which images may go: many ends are one look."""


class Tidying:
    """Removes images as ``environments.image_policy`` says."""

    def __init__(
        self, backend: Backend, settings: ToolEnvironmentSpec, progress: Progress, background: Background
    ) -> None:
        self._backend = backend
        self._settings = settings
        self._progress = progress
        self._background = background
        self._untidy: dict[str, None] = {}
        """Runs that may need fewer images than before; the budget is nobody's, ``""``."""
        self._coming: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    def soon(self, run: str) -> None:
        """An environment of ``run`` came or went."""
        if self._settings.image_policy == "keep":
            return
        self._untidy[run if self._settings.image_policy == "run" else ""] = None
        if not self._closed and (self._coming is None or self._coming.done()):
            self._coming = self._background.spawn(self._tidy(TIDY_S))

    async def make_room(self) -> None:
        """Under a budget, what may go goes before the next image comes: removing can be slower than bringing."""
        if self._settings.image_policy == "budget":
            self._untidy[""] = None
            await self._tidy()

    def stop(self) -> None:
        """From now on only :meth:`finish` removes anything."""
        self._closed = True
        if self._coming is not None:
            self._coming.cancel()

    async def finish(self) -> None:
        """What was still to be looked at, now."""
        await to_the_end(self._tidy())

    async def _tidy(self, after_s: float = 0.0) -> None:
        await asyncio.sleep(after_s)
        async with self._turn:
            while self._untidy:
                run = next(iter(self._untidy))
                del self._untidy[run]
                try:
                    await self._backend.tidy(self._settings, run)
                except ThunderError as failure:
                    self._progress(f"images could not be tidied up: {failure.message}")
