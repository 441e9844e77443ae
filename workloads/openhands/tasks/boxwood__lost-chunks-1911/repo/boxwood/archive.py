"""The archive: names on the one side, chunks on the other."""

from .chunks import key_of, pieces
from .container import read_container, write_container
from .entry import Entry, checked_name
from .errors import Damaged, NoSuchEntry
from .store import Store


class Archive:
    """Files by name. Made by :meth:`create` or :meth:`load`."""

    def __init__(self, store, entries, chunk_size):
        self._store = store
        self._entries = entries
        self._chunk_size = chunk_size

    @classmethod
    def create(cls, chunk_size=4096):
        """An empty archive that cuts files into pieces of ``chunk_size`` bytes."""
        if chunk_size < 1:
            raise ValueError("chunk_size must be at least 1, not %r" % chunk_size)
        return cls(Store(), {}, chunk_size)

    @classmethod
    def load(cls, data):
        """The archive of a container's bytes."""
        store, entries, chunk_size = read_container(data)
        return cls(store, {entry.name: entry for entry in entries}, chunk_size)

    def dump(self):
        """The archive as a container's bytes."""
        return write_container(self._store, [self._entries[name] for name in self.names()], self._chunk_size)

    # ------------------------------------------------------------------ names

    def names(self):
        """All names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name):
        return name in self._entries

    def __len__(self):
        return len(self._entries)

    def size(self, name):
        """Bytes of a file's content."""
        return self._find(name).size

    def mode(self, name):
        """Permission bits of a file."""
        return self._find(name).mode

    # ------------------------------------------------------------------ content

    def add(self, name, data, mode=0o644):
        """Store a file; one of the same name is replaced."""
        checked_name(name)
        if name in self._entries:
            self._let_go(self._entries[name])
        keys = [self._store.put(piece) for piece in pieces(data, self._chunk_size)]
        self._entries[name] = Entry(name, len(data), keys, mode)

    def read(self, name):
        """A file's content. ``Damaged`` if a chunk is missing or has changed."""
        entry = self._find(name)
        data = b"".join(self._chunk(entry, key) for key in entry.keys)
        if len(data) != entry.size:
            raise Damaged("%s: has %d bytes, not %d" % (name, len(data), entry.size))
        return data

    def remove(self, name):
        """Take a file out."""
        self._let_go(self._find(name))
        del self._entries[name]

    def rename(self, name, target):
        """Give a file another name; one that has it already is replaced."""
        entry = self._find(name)
        checked_name(target)
        if target == name:
            return
        if target in self._entries:
            self._let_go(self._entries[target])
        del self._entries[name]
        self._entries[target] = entry.renamed(target)

    def copy(self, name, target):
        """A second file with the same content; one of that name is replaced."""
        checked_name(target)
        entry = self._find(name)
        if target in self._entries:
            self._let_go(self._entries[target])
        self._entries[target] = entry.renamed(target)

    def truncate(self, name, size):
        """Keep the first ``size`` bytes of a file; a shorter one stays as it is."""
        entry = self._find(name)
        if size < 0:
            raise ValueError("size must not be negative")
        if size >= entry.size:
            return
        kept = -(-size // self._chunk_size)
        keys = entry.keys[:kept]
        if keys and size % self._chunk_size:
            edge = self._chunk(entry, keys[-1])[:size % self._chunk_size]
            keys[-1] = self._store.put(edge)
        self._entries[name] = Entry(name, size, keys, entry.mode)

    # ------------------------------------------------------------------ housekeeping

    def compact(self):
        """Let chunks go that nobody uses; how many bytes they had."""
        return self._store.sweep()

    def bytes_held(self):
        """Bytes of all chunks, used or not."""
        return self._store.bytes_held()

    def check(self):
        """Everything that is wrong, in words, damaged entries first; an empty list if nothing is."""
        found = []
        for name in self.names():
            try:
                self.read(name)
            except Damaged as problem:
                found.append(str(problem))
        return found

    def _find(self, name):
        if name not in self._entries:
            raise NoSuchEntry(name)
        return self._entries[name]

    def _let_go(self, entry):
        for key in entry.keys:
            self._store.drop(key)

    def _chunk(self, entry, key):
        data = self._store.get(key)
        if data is None:
            raise Damaged("%s: chunk %s is missing" % (entry.name, key[:8]))
        if key_of(data) != key:
            raise Damaged("%s: chunk %s has changed" % (entry.name, key[:8]))
        return data
