"""What the cache keeps for one key."""


class Entry:
    """A value with its bookkeeping.

    ``ttl`` is the time to live that was asked for, or None for an entry that
    never expires; ``deadline`` is the moment it leads to, None likewise.
    """

    __slots__ = ("key", "value", "size", "tags", "ttl", "deadline")

    def __init__(self, key, value, size, tags=frozenset()):
        self.key = key
        self.value = value
        self.size = size
        self.tags = tags
        self.ttl = None
        self.deadline = None

    def renew(self, ttl, now):
        """Start a new lease of *ttl* at *now*."""
        self.ttl = ttl
        self.deadline = None if ttl is None else now + ttl

    def expired(self, now):
        """Tell whether the deadline has been reached."""
        return self.deadline is not None and now >= self.deadline

    def remaining(self, now):
        """Return the time left, or None if the entry never expires."""
        if self.deadline is None:
            return None
        return max(self.deadline - now, 0)

    def __repr__(self):
        return "Entry(%r, size=%d, deadline=%r)" % (
            self.key, self.size, self.deadline)
