"""What is stored."""


class Entry:
    """``expires`` is a time of the cache's clock, or ``None``."""

    __slots__ = ("key", "value", "size", "expires", "tags")

    def __init__(self, key, value, size, expires, tags):
        self.key = key
        self.value = value
        self.size = size
        self.expires = expires
        self.tags = tags

    def is_over(self, now):
        """Whether the lifetime has passed."""
        return self.expires is not None and now >= self.expires

    def __repr__(self):
        return "Entry(%r, %d bytes)" % (self.key, self.size)
