"""The reconciliation itself: three passes over what is still open."""

from itertools import combinations

from .candidate import Candidate
from .records import Rules


class Outcome:
    """Accepted matches in statement order, and what found no partner."""

    def __init__(self, matches, open_lines, open_entries):
        self.matches = sorted(matches, key=lambda match: match.line.number)
        self.open_lines = open_lines
        self.open_entries = open_entries

    @property
    def net_difference(self):
        """Statement minus ledger over all matches."""
        return sum(match.difference for match in self.matches)

    def pairs(self):
        """``(line number, entry numbers)`` for each match."""
        return [(match.line.number, tuple(entry.number for entry in match.entries))
                for match in self.matches]


class _Matcher:
    def __init__(self, lines, entries, rules):
        self.rules = rules
        self.lines = {line.number: line for line in lines}
        self.entries = {entry.number: entry for entry in entries}
        self.matches = []

    def accept(self, candidate):
        self.matches.append(candidate)
        del self.lines[candidate.line.number]
        for entry in candidate.entries:
            del self.entries[entry.number]

    def is_open(self, candidate):
        return (candidate.line.number in self.lines
                and all(entry.number in self.entries for entry in candidate.entries))

    def pair(self, eligible):
        """Accept single pairs for which ``eligible`` holds, best ones first."""
        candidates = [Candidate(line, [entry])
                      for line in self.lines.values()
                      for entry in self.entries.values()
                      if eligible(line, entry)]
        candidates = [each for each in candidates if each.allowed(self.rules)]
        for candidate in sorted(candidates, key=Candidate.rank):
            if self.is_open(candidate):
                self.accept(candidate)

    def group(self):
        """Let each open line stand for the best group of open entries, if any."""
        for line in list(self.lines.values()):
            near = [entry for entry in self.entries.values()
                    if (entry.amount > 0) == (line.amount > 0)
                    and self.rules.allows_lag((line.date - entry.date).days)]
            groups = [Candidate(line, chosen)
                      for size in range(2, self.rules.group_size + 1)
                      for chosen in combinations(near, size)]
            groups = [each for each in groups if each.allowed(self.rules)]
            if groups:
                self.accept(min(groups, key=Candidate.rank))


def _same_reference(line, entry):
    return line.reference != "" and line.reference == entry.reference


def reconcile(lines, entries, rules=None):
    """Match statement ``lines`` with ledger ``entries``; returns an ``Outcome``."""
    matcher = _Matcher(lines, entries, rules or Rules())
    matcher.pair(_same_reference)
    matcher.pair(lambda line, entry: True)
    matcher.group()
    return Outcome(matcher.matches, list(matcher.lines.values()),
                   list(matcher.entries.values()))
