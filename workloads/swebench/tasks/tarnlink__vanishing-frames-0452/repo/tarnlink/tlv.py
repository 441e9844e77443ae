"""Nested TLV: a tag, a length and a value, which may hold further nodes."""

from .errors import TlvError

CONTAINER = 0x80
MAX_DEPTH = 8
_MAX_LENGTH_BYTES = 4


class Node:
    """``value`` is bytes, or a list of nodes if the tag has the container bit."""

    __slots__ = ("tag", "value")

    def __init__(self, tag, value):
        if not 0 <= tag <= 0xFF:
            raise TlvError("tag %r does not fit one byte" % tag)
        if bool(tag & CONTAINER) != isinstance(value, list):
            raise TlvError("tag %02X and value do not agree" % tag)
        self.tag = tag
        self.value = value

    def __eq__(self, other):
        if not isinstance(other, Node):
            return NotImplemented
        return (self.tag, self.value) == (other.tag, other.value)

    def __repr__(self):
        return "Node(%02X, %r)" % (self.tag, self.value)


def _encode_length(length):
    encoded = bytearray()
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)


def _decode_length(data, position):
    """``(length, position after it)``."""
    length = 0
    for index in range(_MAX_LENGTH_BYTES):
        if position >= len(data):
            raise TlvError("length is cut off")
        byte = data[position]
        position += 1
        length |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return length, position
    raise TlvError("length takes more than %d bytes" % _MAX_LENGTH_BYTES)


def encode_nodes(nodes):
    """Nodes one after the other."""
    encoded = bytearray()
    for node in nodes:
        value = encode_nodes(node.value) if node.tag & CONTAINER else node.value
        encoded.append(node.tag)
        encoded += _encode_length(len(value))
        encoded += value
    return bytes(encoded)


def decode_nodes(data, depth=1):
    """The reverse of ``encode_nodes``."""
    if depth > MAX_DEPTH:
        raise TlvError("nested more than %d deep" % MAX_DEPTH)
    nodes = []
    position = 0
    while position < len(data):
        tag = data[position]
        length, start = _decode_length(data, position + 1)
        position = start + length
        if position > len(data):
            raise TlvError("value of tag %02X is cut off" % tag)
        value = data[start:position]
        nodes.append(Node(tag, decode_nodes(value, depth + 1) if tag & CONTAINER else value))
    return nodes
