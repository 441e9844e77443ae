"""The latest decisions, for ``GET /decisions``: JSON as bytes, which take less than half of what mappings take."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from thunderctl.core.effects import Effect

KEPT = 100_000
"""About 20 MB."""


class Decisions:
    """Each is numbered (``n``, from 1), and says when (``at``, seconds since the epoch), and what (``effect`` …)."""

    def __init__(self, kept: int = KEPT) -> None:
        self._records: deque[bytes] = deque(maxlen=kept)
        self.count = 0
        """Of all that were made."""

    def add(self, effect: Effect, at: float) -> None:
        self.count += 1
        kind, fields = type(effect).__name__.encode(), msgspec.json.encode(effect)
        self._records.append(b'{"n":%d,"at":%.6f,"effect":"%b",%b' % (self.count, at, kind, fields[1:]))

    def __reversed__(self) -> Iterator[dict[str, Any]]:
        """The latest first."""
        return map(msgspec.json.decode, reversed(self._records))

    def since(self, number: int) -> list[dict[str, Any]]:
        """Those numbered above ``number``, oldest first."""
        newer = max(0, self.count - number)
        return list(islice(reversed(self), newer))[::-1]
