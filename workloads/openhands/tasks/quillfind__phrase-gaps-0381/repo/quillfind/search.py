"""Which documents are found, and in which order."""

import math


def search(index, groups):
    """``(name, score)`` of the documents that have one term of each group, the best first, then by name."""
    if all(group.excluded for group in groups):
        return []
    scores = {}
    for name in index.names():
        if all(any(index.count(name, term) for term in group.terms) != group.excluded for group in groups
               ) and not any(group.excluded for group in groups):
            scores[name] = sum(_score(index, name, term) for group in groups for term in group.terms)
    return sorted(scores.items(), key=lambda found: (-found[1], found[0]))


def _score(index, name, term):
    count = index.count(name, term)
    if not count:
        return 0.0
    return count / index.length(name) * math.log(1 + len(index) / index.having(term))
