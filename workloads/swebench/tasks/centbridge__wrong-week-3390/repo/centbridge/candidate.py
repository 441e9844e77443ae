"""Possible pairings of a statement line with ledger entries, and how good they are."""


class Candidate:
    """A statement line that may stand for one or several ledger entries.

    ``difference`` is statement minus ledger. ``lags`` holds, for each entry,
    the days from the entry to the line.
    """

    def __init__(self, line, entries):
        self.line = line
        self.entries = tuple(entries)
        self.difference = line.amount - sum(entry.amount for entry in self.entries)
        self.lags = tuple((line.date - entry.date).days for entry in self.entries)

    @property
    def lag(self):
        """All lags taken together."""
        return sum(self.lags)

    def allowed(self, rules):
        """True if amount and dates are close enough."""
        return (rules.allows_difference(self.difference)
                and all(rules.allows_lag(lag) for lag in self.lags))

    def rank(self):
        """Sorting key: the best candidate comes first."""
        return (self.difference, self.lag, len(self.entries), self.line.number,
                tuple(entry.number for entry in self.entries))

    def __repr__(self):
        return "Candidate(line %d, entries %s)" % (
            self.line.number, [entry.number for entry in self.entries])
