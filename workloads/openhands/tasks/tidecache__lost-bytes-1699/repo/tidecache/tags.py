"""Which entries have which tags."""


class Tags:
    """Keys by tag."""

    def __init__(self):
        self._keys = {}

    def add(self, entry):
        for tag in entry.tags:
            self._keys.setdefault(tag, {})[entry.key] = None

    def remove(self, entry):
        """Forget an entry that was added with these tags."""
        for tag in entry.tags:
            keys = self._keys.get(tag, {})
            keys.pop(entry.key, None)
            if not keys:
                self._keys.pop(tag, None)

    def keys_of(self, tag):
        """Keys with a tag, in the order in which they got it."""
        return list(self._keys.get(tag, ()))

    def __len__(self):
        return len(self._keys)
