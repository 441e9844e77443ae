"""Both ends of a link: numbering frames, and noticing the ones that got lost."""

from .deframer import Deframer
from .frame import DATA, HEARTBEAT, Frame, encode_frame

SEQUENCES = 0x10000


class Sender:
    """Packs messages and numbers them from ``first``."""

    def __init__(self, schema, first=0):
        self._schema = schema
        self._next = first % SEQUENCES

    def send(self, message):
        """Wire bytes of a data frame."""
        return self._frame(DATA, self._schema.pack(message))

    def heartbeat(self):
        """Wire bytes of a frame without payload, for quiet times."""
        return self._frame(HEARTBEAT, b"")

    def _frame(self, kind, payload):
        wire = encode_frame(Frame(kind, self._next, payload))
        self._next = (self._next + 1) % SEQUENCES
        return wire


class Receiver:
    """Unpacks messages; ``missing`` lists the sequence numbers that never came."""

    def __init__(self, schema):
        self._schema = schema
        self._deframer = Deframer()
        self._expected = None
        self.missing = []

    @property
    def stats(self):
        return self._deframer.stats

    def feed(self, chunk):
        """``(sequence, message)`` for each data frame that ``chunk`` completes."""
        messages = []
        for frame in self._deframer.feed(chunk):
            self._check_sequence(frame.sequence)
            if frame.kind == DATA:
                messages.append((frame.sequence, self._schema.unpack(frame.payload)))
        return messages

    def _check_sequence(self, sequence):
        if self._expected is not None:
            gap = (sequence - self._expected) % SEQUENCES
            # A gap of half the range or more is a station that started anew.
            if gap < SEQUENCES // 2:
                self.missing.extend((self._expected + i) % SEQUENCES for i in range(gap))
        self._expected = (sequence + 1) % SEQUENCES
