"""Byte stuffing: keeps the flag byte out of whatever stands between two flags."""

from .errors import FrameError

FLAG = 0x7E
ESCAPE = 0x7D
MASK = 0x20


def stuff(data):
    """Replace flag and escape bytes by an escape and the masked byte."""
    stuffed = bytearray()
    for byte in data:
        if byte in (FLAG, ESCAPE):
            stuffed.append(ESCAPE)
            byte ^= MASK
        stuffed.append(byte)
    return bytes(stuffed)


def unstuff(data):
    """The reverse of ``stuff``; raises ``FrameError`` for an impossible escape."""
    plain = bytearray()
    escaped = False
    for byte in data:
        if escaped:
            byte ^= MASK
            if byte not in (FLAG, ESCAPE):
                raise FrameError("malformed", "escape before %02X" % (byte ^ MASK))
            escaped = False
        elif byte == ESCAPE:
            escaped = True
            continue
        plain.append(byte)
    if escaped:
        raise FrameError("malformed", "escape at the end")
    return bytes(plain)
