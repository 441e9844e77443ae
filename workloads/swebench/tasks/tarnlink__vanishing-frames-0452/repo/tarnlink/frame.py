"""One frame: kind, sequence number and payload, with a checksum."""

import struct

from .crc import crc16
from .errors import FrameError
from .stuffing import FLAG, stuff, unstuff

DATA = 0x01
HEARTBEAT = 0x02

MAX_PAYLOAD = 1024
_HEADER = struct.Struct(">BH")
_CHECKSUM = struct.Struct(">H")
OVERHEAD = _HEADER.size + _CHECKSUM.size
_FLAG = bytes([FLAG])


class Frame:
    """A frame as the application sees it."""

    __slots__ = ("kind", "sequence", "payload")

    def __init__(self, kind, sequence, payload=b""):
        if len(payload) > MAX_PAYLOAD:
            raise FrameError("malformed", "payload of %d bytes is too long" % len(payload))
        self.kind = kind
        self.sequence = sequence
        self.payload = bytes(payload)

    def __eq__(self, other):
        if not isinstance(other, Frame):
            return NotImplemented
        return (self.kind, self.sequence, self.payload) == (
            other.kind, other.sequence, other.payload)

    def __repr__(self):
        return "Frame(%d, %d, %r)" % (self.kind, self.sequence, self.payload)


def encode_frame(frame):
    """The bytes on the wire, flags included."""
    content = _HEADER.pack(frame.kind, frame.sequence) + frame.payload
    return _FLAG + stuff(content) + _CHECKSUM.pack(crc16(content)) + _FLAG


def decode_frame(raw):
    """Decode what stood between two flags."""
    if len(raw) < OVERHEAD:
        raise FrameError("runt", "only %d bytes" % len(raw))
    content = unstuff(raw[:-_CHECKSUM.size])
    (checksum,) = _CHECKSUM.unpack(raw[-_CHECKSUM.size:])
    if crc16(content) != checksum:
        raise FrameError("checksum", "checksum %04X, expected %04X" % (
            checksum, crc16(content)))
    kind, sequence = _HEADER.unpack_from(content)
    return Frame(kind, sequence, content[_HEADER.size:])
