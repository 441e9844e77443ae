"""The tag index: from a tag to the keys that carry it."""


class TagIndex:
    """A many-to-many relation that forgets tags without keys."""

    def __init__(self):
        self._keys = {}

    def __contains__(self, tag):
        return tag in self._keys

    def __len__(self):
        return len(self._keys)

    def link(self, key, tags):
        for tag in tags:
            # A dict serves as an ordered set: results come in a stable order.
            self._keys.setdefault(tag, {})[key] = None

    def unlink(self, key, tags):
        for tag in tags:
            keys = self._keys.get(tag)
            if keys is None:
                continue
            keys.pop(key, None)
            if not keys:
                del self._keys[tag]

    def keys(self, tag):
        """Return a list (a copy, safe to iterate over while unlinking)."""
        return list(self._keys.get(tag, ()))

    def clear(self):
        self._keys.clear()
