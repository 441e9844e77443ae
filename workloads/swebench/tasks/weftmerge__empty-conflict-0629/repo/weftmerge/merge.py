"""The merge itself."""

from . import lines
from .chunks import Conflict, Stable, coalesce, trim
from .diff import diff
from .markers import render
from .regions import regions

STYLES = ("merge", "diff3")


class MergeResult:
    """The chunks of a merged text, and what can be made of them."""

    def __init__(self, chunks, labels=("ours", "theirs")):
        self.chunks = chunks
        self.labels = labels

    @property
    def conflicts(self):
        return [c for c in self.chunks if isinstance(c, Conflict)]

    @property
    def clean(self):
        return not self.conflicts

    def text(self):
        """Return the merged text, with markers around the conflicts."""
        return render(self.chunks, self.labels)

    def resolve(self, strategy):
        """Return the text with every conflict settled by *strategy*."""
        out = []
        for chunk in self.chunks:
            if isinstance(chunk, Conflict):
                out += chunk.take(strategy)
            else:
                out += chunk.lines
        # A line without its ending can only be the last one.
        newline = lines.ending(out)
        for index in range(len(out) - 1):
            out[index:index + 1] = lines.closed(out[index:index + 1], newline)
        return "".join(out)


def merge(base, ours, theirs, style="merge", labels=("ours", "theirs")):
    """Merge two descendants of *base*; all three are strings."""
    if style not in STYLES:
        raise ValueError("unknown style %r" % (style,))
    base, ours, theirs = map(lines.split, (base, ours, theirs))
    chunks = []
    at = 0
    for region in regions(diff(base, ours), diff(base, theirs)):
        chunks.append(Stable(base[at:region.lo]))
        chunks += _settle(region, base, ours, theirs, style)
        at = region.hi
    chunks.append(Stable(base[at:]))
    return MergeResult(coalesce(chunks), labels)


def _settle(region, base, ours, theirs, style):
    """Return the chunks for one region."""
    mine = region.lines(region.ours, base, ours)
    other = region.lines(region.theirs, base, theirs)
    if not region.theirs or mine == other:
        return [Stable(mine)]
    if not region.ours:
        return [Stable(other)]
    conflict = Conflict(mine, other, base[region.lo:region.hi])
    return [conflict] if style == "diff3" else trim(conflict)
