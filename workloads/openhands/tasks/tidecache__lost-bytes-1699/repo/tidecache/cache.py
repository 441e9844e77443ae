"""The cache: entries in the order of their last use, and the bytes that they take."""

import time
from collections import OrderedDict

from .entry import Entry
from .errors import TooLarge
from .stats import Stats
from .tags import Tags


class Cache:
    """Values by key, within a budget of bytes."""

    def __init__(self, budget, size_of=len, clock=time.monotonic):
        if budget < 1:
            raise ValueError("budget must be at least 1, not %r" % budget)
        self.budget = budget
        self.used = 0
        self.stats = Stats()
        self._size_of = size_of
        self._clock = clock
        self._entries = OrderedDict()
        """The least recently used first."""
        self._tags = Tags()

    # ------------------------------------------------------------------ storing and asking

    def put(self, key, value, ttl=None, tags=()):
        """Store a value; an older one of the same key goes in any case. ``TooLarge`` if it never fits."""
        if ttl is not None and ttl <= 0:
            raise ValueError("ttl must be above 0, not %r" % ttl)
        now = self._clock()
        size = self._size_of(value)
        while self._entries and self.used + size > self.budget:
            self._evict(next(iter(self._entries)))
        if key in self._entries:
            self.stats.evicted += 1
        entry = Entry(key, value, size, None if ttl is None else now + ttl, frozenset(tags))
        self._entries[key] = entry
        self._tags.add(entry)
        self.used += size

    def get(self, key, default=None):
        """The value of a key, which counts as a use."""
        entry = self._entries.get(key)
        if entry is None:
            self.stats.missed += 1
            return default
        if entry.expires is not None:
            if entry.is_over(self._clock()):
                self.stats.expired += 1
                self.stats.missed += 1
                return default
            self._entries.move_to_end(key)
        self.stats.hit += 1
        return entry.value

    def peek(self, key, default=None):
        """The value of a key, without counting anything."""
        entry = self._entries.get(key)
        return default if entry is None or entry.is_over(self._clock()) else entry.value

    def keys(self):
        """Keys of the entries that are alive, the least recently used first."""
        return list(self._entries)

    def __len__(self):
        return len(self._entries)

    def __contains__(self, key):
        return key in self._entries

    # ------------------------------------------------------------------ letting go

    def drop(self, key):
        """Let an entry go; whether it was there, and alive."""
        if key not in self._entries:
            return False
        self._evict(key)
        return True

    def drop_tag(self, tag):
        """Let all entries with a tag go; how many there were."""
        count = 0
        for key in self._tags.keys_of(tag):
            if self._entries.pop(key, None) is not None:
                count += 1
                self.stats.evicted += 1
        return count

    def _evict(self, key):
        entry = self._entries.pop(key)
        self.used -= entry.size
        self.stats.evicted += 1

    # ------------------------------------------------------------------ over restarts

    def snapshot(self):
        """The living entries as plain values, the least recently used first."""
        now = self._clock()
        return [{"key": entry.key, "value": entry.value,
                 "left": None if entry.expires is None else entry.expires - now, "tags": sorted(entry.tags)}
                for entry in self._entries.values()]

    @classmethod
    def restore(cls, snapshot, budget, size_of=len, clock=time.monotonic):
        """A cache with the entries of a snapshot, as far as the budget goes; counting begins anew."""
        cache = cls(budget, size_of, clock)
        for known in snapshot:
            if size_of(known["value"]) <= budget:
                cache.put(known["key"], known["value"], known["left"], known["tags"])
        cache.stats = Stats()
        return cache
