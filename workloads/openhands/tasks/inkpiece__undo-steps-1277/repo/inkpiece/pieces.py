"""A text in pieces: slices of two buffers, one as given and one that only grows."""

from collections import namedtuple

Piece = namedtuple("Piece", "buffer start length")


class PieceTable:
    """A text that can be changed at any place. Positions are characters from 0."""

    def __init__(self, text=""):
        self._buffers = [text, ""]
        self._pieces = [Piece(0, 0, len(text))] if text else []
        self._length = len(text)

    def __len__(self):
        return self._length

    def __str__(self):
        return "".join(self._text(piece) for piece in self._pieces)

    def pieces(self):
        """How many pieces there are."""
        return len(self._pieces)

    def insert(self, at, text):
        """Put ``text`` before position ``at``."""
        if not 0 <= at <= self._length:
            raise IndexError("position %d is outside of the text (0 to %d)" % (at, self._length))
        if not text:
            return
        start = len(self._buffers[1])
        self._buffers[1] += text
        index = self._split(at)
        before = self._pieces[index - 1] if index else None
        if before is not None and before.buffer == 1 and before.start + before.length == start:
            self._pieces[index - 1] = before._replace(length=before.length + len(text))
        else:
            self._pieces.insert(index, Piece(1, start, len(text)))
        self._length += len(text)

    def delete(self, at, count):
        """Take ``count`` characters out from position ``at`` on; what they were."""
        if not 0 <= at <= at + count <= self._length:
            raise IndexError("%d characters at %d are outside of the text (0 to %d)" % (count, at, self._length))
        first = self._split(at)
        last = self._split(at + count)
        gone = "".join(self._text(piece) for piece in self._pieces[first:last])
        del self._pieces[first:last]
        self._length -= count
        return gone

    def slice(self, start, end):
        """The characters from ``start`` up to ``end``."""
        found, at = [], 0
        for piece in self._pieces:
            if at >= end:
                break
            low, high = max(start - at, 0), min(end - at, piece.length)
            if low < high:
                found.append(self._buffers[piece.buffer][piece.start + low:piece.start + high])
            at += piece.length
        return "".join(found)

    def _text(self, piece):
        return self._buffers[piece.buffer][piece.start:piece.start + piece.length]

    def _split(self, at):
        """Have a piece begin at position ``at``; its index."""
        for index, piece in enumerate(self._pieces):
            if at == 0:
                return index
            if at < piece.length:
                self._pieces[index:index + 1] = [
                    piece._replace(length=at), piece._replace(start=piece.start + at, length=piece.length - at)]
                return index + 1
            at -= piece.length
        return len(self._pieces)
