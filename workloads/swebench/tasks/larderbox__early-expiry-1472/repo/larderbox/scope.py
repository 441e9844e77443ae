"""Scopes: one part of a cache, seen through a key prefix.

Several components can share one size budget without knowing each other's
keys.  A scope keeps no state of its own: it prefixes keys, supplies a time to
live, and marks its entries with a tag by which they can all be dropped.
"""


class Scope:
    """A view of *cache* for the keys that begin with *name*."""

    def __init__(self, cache, name, ttl=None):
        if not name or ":" in name:
            raise ValueError("bad scope name %r" % (name,))
        self.cache = cache
        self.name = name
        self.ttl = ttl
        self.tag = "scope:" + name

    def key(self, key):
        """Return the key under which *key* is stored in the cache."""
        return "%s:%s" % (self.name, key)

    def get(self, key, now, default=None):
        return self.cache.get(self.key(key), now, default)

    def put(self, key, value, now, ttl=None, tags=(), size=None):
        """Store *value*; without *ttl* it lives as long as the scope says."""
        self.cache.put(self.key(key), value, now,
                       ttl=self.ttl if ttl is None else ttl,
                       tags=(*tags, self.tag), size=size)

    def touch(self, key, now):
        return self.cache.touch(self.key(key), now)

    def delete(self, key):
        return self.cache.delete(self.key(key))

    def keys(self):
        """Return the stored keys without their prefix, oldest use first."""
        prefix = self.key("")
        return [key[len(prefix):] for key in self.cache.keys()
                if isinstance(key, str) and key.startswith(prefix)]

    def clear(self):
        """Drop all entries of this scope; returns their number."""
        return self.cache.invalidate_tag(self.tag)
