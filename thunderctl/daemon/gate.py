"""Where model calls pass on their way to a worker: open, or closed while the weights change. No HTTP here.

A call enters just before it is sent, and leaves when its worker has said the last of it; in between, the version of
the weights cannot change. While the gate is closed calls wait in front of it, and those inside end in one of three
ways: by themselves, cut off with what they have (their caller goes on by itself), or cut off to be made again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

Mode = Literal["finish", "keep", "restart"]
"""What becomes of calls in flight when the weights change: see :meth:`Gate.close`."""
HEADER = "X-Thunderctl-Weights"
"""In every answer that was generated: the version of the weights that made all of its tokens."""


@dataclass(slots=True, eq=False)
class Passage:
    """One call inside the gate."""

    version: int
    """Of the weights, as long as the call is inside."""
    continues: bool
    """Its caller reads token ids, and goes on by itself from an answer that was cut off."""
    waited_s: float = 0.0
    """Seconds in front of the closed gate."""
    begun: bool = False
    """Something of its answer went out to the client."""
    cut: bool = False
    """Its engine was told to cut it off."""
    again: bool = False
    """It is to be made again, as was decided when it was cut off: what happens to the update since is no matter."""


class Gate:
    """One for the gateway and whoever changes the weights. Used from one event loop only."""

    def __init__(self) -> None:
        self.version = 0
        self.mode: Mode | None = None
        """How it was closed; ``None``: it is open."""
        self.waiting = 0
        """Calls in front of it."""
        self.cut_off = 0
        """Calls that were cut off, since it was closed."""
        self._inside: set[Passage] = set()
        self._opened: asyncio.Future[None] | None = None
        self._left: asyncio.Event = asyncio.Event()

    @property
    def inside(self) -> int:
        """Calls that are with a worker."""
        return len(self._inside)

    # ------------------------------------------------------------------ calls

    async def enter(self, *, continues: bool) -> Passage:
        """Go in, as soon as the gate is open; :meth:`leave` in any case."""
        waited = 0.0
        if self._opened is not None:
            began = time.monotonic()
            self.waiting += 1
            try:
                while self._opened is not None:
                    await asyncio.shield(self._opened)
            finally:
                self.waiting -= 1
            waited = time.monotonic() - began
        passage = Passage(self.version, continues, waited)
        self._inside.add(passage)
        return passage

    def leave(self, passage: Passage) -> None:
        """Its worker has said everything, or nobody listens any more. Twice is as good as once."""
        self._inside.discard(passage)
        self._left.set()

    def begin(self, passage: Passage) -> bool:
        """The first piece of a stream is there. Whether it may go out; if not, the call is to be made again."""
        if passage.cut or self._made_again(passage):
            return False
        passage.begun = True
        return True

    def unfinished(self, passage: Passage, output_tokens: int) -> bool:
        """Whether a whole answer is to be made again, since it was cut off; then nothing of it goes out.

        Those who go on by themselves are spared an answer without ``output_tokens``, an error say.
        """
        return passage.cut and (passage.again or not output_tokens)

    def _made_again(self, passage: Passage) -> bool:
        return self.mode == "restart" or (self.mode == "keep" and not passage.continues)

    # ------------------------------------------------------------------ whoever changes the weights

    def close(self, mode: Mode) -> None:
        """Let nobody in from now on.

        ``finish``: calls inside end by themselves. ``restart``: they are cut off and made again, except streams that
        have begun, which end by themselves. ``keep``: callers that go on by themselves get what they have; all others
        fare as with ``restart``.
        """
        assert self._opened is None, "it is closed already"  # noqa: S101 - only one update at a time
        self._opened = asyncio.get_running_loop().create_future()
        self.mode, self.cut_off = mode, 0

    def must_end(self) -> int:
        """Calls inside that are to end by themselves."""
        if self.mode == "finish":
            return len(self._inside)
        return sum(passage.begun and self._made_again(passage) for passage in self._inside)

    def cut(self) -> None:
        """The engines are about to cut off everything that is inside.

        An answer that was complete just then is made again all the same: its end does not always tell.
        """
        for passage in self._inside:
            self.cut_off += not passage.cut
            passage.cut, passage.again = True, self._made_again(passage)

    async def wait(self, seconds: float) -> None:
        """Until a call leaves, or so long."""
        self._left.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._left.wait()
        except TimeoutError:
            return

    def open(self, version: int) -> None:
        """Let everybody in that waits; ``version`` of the weights is in force."""
        opened, self._opened = self._opened, None
        self.version, self.mode = version, None
        if opened is not None:
            opened.set_result(None)
