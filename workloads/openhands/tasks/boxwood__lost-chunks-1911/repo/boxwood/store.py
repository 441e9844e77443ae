"""Chunks by their keys, with a count of uses for each."""

from .chunks import key_of


class Store:
    """Holds every chunk once. A chunk that is used 0 times stays until it is swept."""

    def __init__(self):
        self._chunks = {}
        self._uses = {}

    def put(self, data):
        """Store a chunk, or count one more use of it if it is there; its key."""
        key = key_of(data)
        if key not in self._chunks:
            self._chunks[key] = data
            self._uses[key] = 1
        return key

    def drop(self, key):
        """Count one use less. The chunk itself stays until :meth:`sweep`."""
        if self._uses.get(key, 0) > 0:
            self._uses[key] -= 1

    def restore(self, key, data, uses):
        """A chunk as a container has it."""
        self._chunks[key] = data
        self._uses[key] = uses

    def get(self, key):
        """A chunk, or ``None`` if it is missing."""
        return self._chunks.get(key)

    def counts(self):
        """``(key, uses)`` of every chunk that is there, by key."""
        return [(key, self._uses.get(key, 0)) for key in sorted(self._chunks)]

    def sweep(self):
        """Remove all chunks that nobody uses; how many bytes they had."""
        unused = [key for key, uses in self.counts() if uses == 0]
        freed = sum(len(self._chunks[key]) for key in unused)
        for key in unused:
            del self._chunks[key]
            self._uses.pop(key, None)
        return freed

    def bytes_held(self):
        return sum(len(data) for data in self._chunks.values())

    def __len__(self):
        return len(self._chunks)
