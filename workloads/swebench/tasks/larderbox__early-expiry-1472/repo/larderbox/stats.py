"""Counters."""

_FIELDS = ("hits", "misses", "puts", "expirations", "evictions",
           "invalidations")


class Stats:
    """Plain counters, with a ratio and a difference."""

    __slots__ = _FIELDS

    def __init__(self, **values):
        for field in _FIELDS:
            setattr(self, field, values.pop(field, 0))
        if values:
            raise TypeError("unknown counters: %s" % ", ".join(sorted(values)))

    def as_dict(self):
        return {field: getattr(self, field) for field in _FIELDS}

    def copy(self):
        return Stats(**self.as_dict())

    def __sub__(self, earlier):
        return Stats(**{field: getattr(self, field) - getattr(earlier, field)
                        for field in _FIELDS})

    def __eq__(self, other):
        if not isinstance(other, Stats):
            return NotImplemented
        return self.as_dict() == other.as_dict()

    __hash__ = None

    @property
    def lookups(self):
        return self.hits + self.misses

    @property
    def hit_ratio(self):
        """Hits per lookup, 0.0 before the first lookup."""
        return self.hits / self.lookups if self.lookups else 0.0

    def __repr__(self):
        return "Stats(%s)" % ", ".join(
            "%s=%d" % pair for pair in self.as_dict().items() if pair[1])
