"""Cutting data into pieces, and the keys of pieces."""

import hashlib

KEY_BYTES = 16


def pieces(data, size):
    """``data`` in pieces of ``size`` bytes; the last one may be shorter. No data, no pieces."""
    for start in range(0, len(data), size):
        yield bytes(data[start:start + size])


def key_of(piece):
    """Hexadecimal key of a piece: equal pieces have equal keys."""
    return hashlib.blake2b(piece, digest_size=KEY_BYTES).hexdigest()
