"""Chunks: what a merged text consists of."""


class Stable:
    """Lines on which there is agreement."""

    def __init__(self, lines):
        self.lines = list(lines)

    def __eq__(self, other):
        return isinstance(other, Stable) and self.lines == other.lines

    __hash__ = None

    def __repr__(self):
        return "Stable(%r)" % self.lines


class Conflict:
    """Three versions of one place; *base* is None where it is not known."""

    def __init__(self, ours, theirs, base=None):
        self.ours = list(ours)
        self.theirs = list(theirs)
        self.base = None if base is None else list(base)

    def __eq__(self, other):
        return isinstance(other, Conflict) and (
            (self.ours, self.theirs, self.base)
            == (other.ours, other.theirs, other.base))

    __hash__ = None

    def __repr__(self):
        return "Conflict(%r, %r, %r)" % (self.ours, self.theirs, self.base)

    def take(self, strategy):
        """Return the lines for "ours", "theirs" or "union"."""
        if strategy == "ours":
            return list(self.ours)
        if strategy == "theirs":
            return list(self.theirs)
        if strategy == "union":
            return self.ours + self.theirs
        raise ValueError("unknown strategy %r" % (strategy,))


def trim(conflict):
    """Move lines shared by both sides out of *conflict*.

    Returns a list of chunks: the conflict, without its base (which no longer
    belongs to what is left), and the shared lines before and after it.
    """
    ours, theirs = conflict.ours, conflict.theirs
    head = 0
    for mine, other in zip(ours, theirs):
        if mine != other:
            break
        head += 1
    tail = 0
    for mine, other in zip(reversed(ours), reversed(theirs)):
        if mine != other:
            break
        tail += 1
    chunks = [
        Stable(ours[:head]),
        Conflict(ours[head:len(ours) - tail], theirs[head:len(theirs) - tail]),
        Stable(ours[len(ours) - tail:]),
    ]
    return [c for c in chunks if isinstance(c, Conflict) or c.lines]


def coalesce(chunks):
    """Join neighbouring stable chunks and leave out empty ones."""
    out = []
    for chunk in chunks:
        if isinstance(chunk, Stable):
            if not chunk.lines:
                continue
            if out and isinstance(out[-1], Stable):
                out[-1] = Stable(out[-1].lines + chunk.lines)
                continue
        out.append(chunk)
    return out
