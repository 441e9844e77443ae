"""What an archive knows of one file."""


class Entry:
    """``keys`` are the chunks of the content in order; ``size`` counts bytes."""

    __slots__ = ("name", "size", "keys", "mode")

    def __init__(self, name, size, keys, mode=0o644):
        self.name = name
        self.size = size
        self.keys = list(keys)
        self.mode = mode

    def renamed(self, name):
        """The same content under another name."""
        return Entry(name, self.size, self.keys, self.mode)

    def __repr__(self):
        return "Entry(%r, %d bytes, %d chunks)" % (self.name, self.size, len(self.keys))


def checked_name(name):
    """``name`` if it can be one: relative, with ``/`` between parts, and no part empty, ``.`` or ``..``."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise ValueError("not a name for an entry: %r" % name)
    if len(name.encode("utf-8")) > 0xFFFF:
        raise ValueError("the name is too long")
    return name
