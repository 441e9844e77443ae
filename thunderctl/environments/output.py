"""Keeping the output of a command that may never stop talking: the first half, the last half, and a count.

Memory stays below ``limit`` plus one chunk, however much is fed.
"""

from __future__ import annotations

from collections import deque


class HeadTail:
    """Bytes fed in, the head and the tail of them kept."""

    def __init__(self, limit: int) -> None:
        self._head_room = limit // 2
        self._tail_room = limit - self._head_room
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self.cut_bytes = 0

    def feed(self, data: bytes) -> None:
        missing = self._head_room - len(self._head)
        if missing > 0:
            self._head += data[:missing]
            data = data[missing:]
        if not data:
            return
        self._tail.append(data)
        self._tail_bytes += len(data)
        # Whole chunks go cheaply; what the oldest one has too much is cut off when the text is asked for,
        # so that a byte is copied once and not with every chunk that follows it.
        while self._tail_bytes - len(self._tail[0]) >= self._tail_room:
            dropped = len(self._tail.popleft())
            self._tail_bytes -= dropped
            self.cut_bytes += dropped

    def text(self) -> tuple[str, int]:
        """What was kept, as text, and how many bytes were cut out of its middle."""
        tail = b"".join(self._tail)
        surplus = max(0, len(tail) - self._tail_room)
        cut = self.cut_bytes + surplus
        if not cut:
            return (bytes(self._head) + tail).decode("utf-8", "replace"), 0
        head = self._head.decode("utf-8", "replace")
        return f"{head}\n[... {cut} bytes cut ...]\n{tail[surplus:].decode('utf-8', 'replace')}", cut
