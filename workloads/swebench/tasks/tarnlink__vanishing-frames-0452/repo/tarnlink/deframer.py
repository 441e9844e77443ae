"""Cutting a byte stream, which arrives in arbitrary chunks, into frames."""

from .errors import FrameError
from .frame import MAX_PAYLOAD, OVERHEAD, decode_frame
from .stuffing import FLAG

# In the worst case each byte of a frame is escaped.
_MAX_RAW = 2 * (MAX_PAYLOAD + OVERHEAD)


class Stats:
    """Counters of what came between flags."""

    def __init__(self):
        self.frames = 0
        self.runts = 0
        self.malformed = 0
        self.checksum_errors = 0

    def count(self, kind):
        name = {"runt": "runts", "checksum": "checksum_errors"}.get(kind, kind)
        setattr(self, name, getattr(self, name) + 1)

    def __str__(self):
        return "%d frames, %d runts, %d malformed, %d checksum errors" % (
            self.frames, self.runts, self.malformed, self.checksum_errors)


class Deframer:
    """Collects bytes up to a flag and decodes them; bad frames are only counted."""

    def __init__(self):
        self.stats = Stats()
        self._raw = bytearray()
        self._overrun = False

    def feed(self, chunk):
        """Frames that are completed by ``chunk``, in order."""
        frames = []
        for byte in chunk:
            if byte == FLAG:
                frame = self._finish()
                if frame is not None:
                    frames.append(frame)
            elif len(self._raw) < _MAX_RAW:
                self._raw.append(byte)
            else:
                self._overrun = True
        return frames

    def _finish(self):
        raw, overrun = bytes(self._raw), self._overrun
        self._raw.clear()
        self._overrun = False
        if not raw:
            return None
        try:
            if overrun:
                raise FrameError("malformed", "too many bytes without a flag")
            frame = decode_frame(raw)
        except FrameError as problem:
            self.stats.count(problem.kind)
            return None
        self.stats.frames += 1
        return frame
