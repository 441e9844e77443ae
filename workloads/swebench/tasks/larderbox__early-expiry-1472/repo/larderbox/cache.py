"""The cache itself."""

from collections import OrderedDict

from .agenda import Agenda
from .entry import Entry
from .errors import TimeRanBackwards, TooLarge
from .sizing import measure
from .stats import Stats
from .tags import TagIndex

_DEFAULT = object()


class Cache:
    """A mapping with a size budget and deadlines.

    Entries live in an OrderedDict, least recently used first.  Every removal
    goes through :meth:`_remove`, so that the size and the tag index never
    disagree with what is stored.
    """

    def __init__(self, capacity, default_ttl=None, measure=measure):
        if capacity <= 0:
            raise ValueError("capacity must be positive")
        self.capacity = capacity
        self.default_ttl = self._checked(default_ttl)
        self.used = 0
        self.stats = Stats()
        self._measure = measure
        self._entries = OrderedDict()
        self._agenda = Agenda()
        self._tags = TagIndex()
        self._latest = None

    def __len__(self):
        return len(self._entries)

    def keys(self):
        """Return the stored keys, least recently used first."""
        return list(self._entries)

    # -- reading ------------------------------------------------------------

    def get(self, key, now, default=None):
        """Return the value of *key*, and make it the most recently used."""
        entry = self._live(key, now)
        if entry is None:
            self.stats.misses += 1
            return default
        self.stats.hits += 1
        self._entries.move_to_end(key)
        return entry.value

    def peek(self, key, now, default=None):
        """Like :meth:`get`, leaving order and statistics alone."""
        entry = self._entries.get(key)
        if entry is None or entry.expired(now):
            return default
        return entry.value

    def remaining(self, key, now):
        """Return the time *key* has left; None if it never expires.

        Raises KeyError for a key that is not there.
        """
        entry = self._entries.get(key)
        if entry is None or entry.expired(now):
            raise KeyError(key)
        return entry.remaining(now)

    def get_or_load(self, key, now, load, **options):
        """Return the value of *key*, calling ``load(key)`` if there is none.

        The options are those of :meth:`put`.
        """
        missing = object()
        value = self.get(key, now, missing)
        if value is missing:
            value = load(key)
            self.put(key, value, now, **options)
        return value

    # -- writing ------------------------------------------------------------

    def put(self, key, value, now, ttl=_DEFAULT, tags=(), size=None):
        """Store *value*, replacing the entry of *key* if there is one."""
        self._advance(now)
        ttl = self.default_ttl if ttl is _DEFAULT else self._checked(ttl)
        size = self._measure(value) if size is None else size
        if size > self.capacity:
            raise TooLarge(key, size, self.capacity)
        if key in self._entries:
            self._remove(key)
        self._make_room(size, now)
        entry = Entry(key, value, size, frozenset(tags))
        entry.renew(ttl, now)
        self._entries[key] = entry
        self._agenda.note(entry.deadline, key)
        self._tags.link(key, entry.tags)
        self.used += size
        self.stats.puts += 1

    def touch(self, key, now, ttl=_DEFAULT):
        """Renew the lease of *key* and make it the most recently used.

        Without *ttl* the entry gets the time to live that it had before.
        Returns whether the key was there.
        """
        entry = self._live(key, now)
        if entry is None:
            return False
        entry.renew(entry.ttl if ttl is _DEFAULT else self._checked(ttl), now)
        self._entries.move_to_end(key)
        return True

    def delete(self, key):
        """Remove *key*; returns whether it was there."""
        if key not in self._entries:
            return False
        self._remove(key)
        return True

    def invalidate_tag(self, tag):
        """Remove all entries that carry *tag*; returns their number."""
        keys = self._tags.keys(tag)
        for key in keys:
            self._remove(key)
        self.stats.invalidations += len(keys)
        return len(keys)

    def sweep(self, now):
        """Remove what has expired; returns the number of entries removed."""
        self._advance(now)
        swept = 0
        for key in self._agenda.take_due(now):
            if key in self._entries:
                self._remove(key)
                swept += 1
        self.stats.expirations += swept
        return swept

    def resize(self, capacity, now):
        """Change the size budget, evicting what no longer fits."""
        if capacity <= 0:
            raise ValueError("capacity must be positive")
        self.capacity = capacity
        self._make_room(0, now)

    def clear(self):
        """Drop everything but the statistics."""
        self._entries.clear()
        self._agenda.clear()
        self._tags.clear()
        self.used = 0

    # -- helpers ------------------------------------------------------------

    @staticmethod
    def _checked(ttl):
        if ttl is not None and ttl <= 0:
            raise ValueError("ttl must be positive or None")
        return ttl

    def _advance(self, now):
        if self._latest is not None and now < self._latest:
            raise TimeRanBackwards("%r after %r" % (now, self._latest))
        self._latest = now

    def _live(self, key, now):
        """Return the entry of *key*, dropping it if it has expired."""
        self._advance(now)
        entry = self._entries.get(key)
        if entry is not None and entry.expired(now):
            self._remove(key)
            self.stats.expirations += 1
            return None
        return entry

    def _make_room(self, size, now):
        """Free space for *size*: the expired go first, then the oldest."""
        self.sweep(now)
        while self.used + size > self.capacity:
            self._remove(next(iter(self._entries)))
            self.stats.evictions += 1

    def _remove(self, key):
        entry = self._entries.pop(key)
        self._tags.unlink(key, entry.tags)
        self.used -= entry.size
