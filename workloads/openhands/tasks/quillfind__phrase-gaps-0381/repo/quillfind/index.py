"""Which words stand where."""

from .query import parse_query
from .search import search
from .tokens import positioned


class Index:
    """Documents by name. ``stop_words`` are not searched for."""

    def __init__(self, stop_words=()):
        self.stop_words = frozenset(word.lower() for word in stop_words)
        self._postings = {}
        """Word → name → positions."""
        self._words = {}
        self._lengths = {}

    def add(self, name, text):
        """Add a document; one of the same name is replaced."""
        found = positioned(text, self.stop_words)
        self._lengths[name] = len(found)
        self._words[name] = {word for _position, word in found}
        for position, word in found:
            self._postings.setdefault(word, {}).setdefault(name, set()).add(position)

    def remove(self, name):
        """Take a document out; ``KeyError`` if there is none."""
        if name not in self._lengths:
            raise KeyError(name)
        del self._lengths[name]
        self._words.pop(name)

    def names(self):
        return sorted(self._lengths)

    def __len__(self):
        return len(self._lengths)

    def __contains__(self, name):
        return name in self._lengths

    def length(self, name):
        """Words of a document without stop words."""
        return self._lengths[name]

    def count(self, name, parts):
        """How often a document has a term."""
        places = [self._places(name, word) for _position, word in parts]
        count = 0
        for start in places[0]:
            if all(any(other - start in range(len(parts)) for other in those) for those in places):
                count += 1
        return count

    def having(self, parts):
        """How many documents have a term."""
        return sum(1 for name in self._postings.get(parts[0][1], {}) if self.count(name, parts))

    def search(self, text, limit=None):
        """``(name, score)`` of what is found, the best first."""
        return search(self, parse_query(text, self.stop_words))[:limit]

    def vocabulary(self):
        """Every word with the number of documents that have it, the most frequent first."""
        return sorted(((word, len(names)) for word, names in self._postings.items()), key=lambda each: (-each[1], each[0]))

    def _places(self, name, word):
        return self._postings.get(word, {}).get(name, set())
