"""The container's bytes: see README.md for the layout."""

import struct
import zlib

from .chunks import KEY_BYTES
from .entry import Entry
from .errors import NotAContainer
from .store import Store

MAGIC = b"BOXW"
VERSION = 1
_HEAD = struct.Struct(">4sBIII")
_CHUNK = struct.Struct(">%dsII" % KEY_BYTES)
_ENTRY = struct.Struct(">IQI")


def write_container(store, entries, chunk_size):
    """Store and entries as bytes."""
    counts = store.counts()
    parts = [_HEAD.pack(MAGIC, VERSION, chunk_size, len(counts), len(entries))]
    for key, uses in counts:
        data = store.get(key)
        parts.append(_CHUNK.pack(bytes.fromhex(key), uses, len(data)))
        parts.append(data)
    for entry in entries:
        name = entry.name.encode("utf-8")
        parts.append(struct.pack(">H", len(name)) + name)
        parts.append(_ENTRY.pack(entry.mode, entry.size, len(entry.keys)))
        parts.extend(bytes.fromhex(key) for key in entry.keys)
    body = b"".join(parts)
    return body + struct.pack(">I", zlib.crc32(body))


class _Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count, what):
        if self.at + count > len(self.data):
            raise NotAContainer("%s is cut off" % what, self.at)
        piece = self.data[self.at:self.at + count]
        self.at += count
        return piece

    def unpack(self, layout, what):
        return layout.unpack(self.take(layout.size, what))


def read_container(data):
    """``(store, entries, chunk_size)`` of bytes; ``NotAContainer`` if they are none."""
    if len(data) < _HEAD.size + 4 or data[:4] != MAGIC:
        raise NotAContainer("no container begins here", 0)
    (crc,) = struct.unpack(">I", data[-4:])
    if zlib.crc32(data[:-4]) != crc:
        raise NotAContainer("the check sum is wrong", len(data) - 4)
    reader = _Reader(data[:-4])
    _magic, version, chunk_size, chunks, count = reader.unpack(_HEAD, "the head")
    if version != VERSION:
        raise NotAContainer("version %d is unknown" % version, 4)
    store, entries = Store(), []
    for _ in range(chunks):
        key, uses, length = reader.unpack(_CHUNK, "a chunk's head")
        store.restore(key.hex(), reader.take(length, "a chunk"), uses)
    for _ in range(count):
        (length,) = reader.unpack(struct.Struct(">H"), "a name's length")
        name = reader.take(length, "a name").decode("utf-8")
        mode, size, keys = reader.unpack(_ENTRY, "an entry")
        entries.append(Entry(name, size, [reader.take(KEY_BYTES, "a key").hex() for _ in range(keys)], mode))
    if reader.at != len(reader.data):
        raise NotAContainer("something follows the last entry", reader.at)
    return store, entries, chunk_size
