"""Book-keeping of who demands which versions of what."""


class Demand:
    """``source`` wants ``target`` at a version that ``constraint`` admits."""

    def __init__(self, target, source, constraint):
        self.target = target
        self.source = source
        self.constraint = constraint

    def __str__(self):
        return "%s wants %s %s" % (self.source, self.target, self.constraint)


class Demands:
    """The demands in force at one point of the search.

    The resolver takes a ``checkpoint`` before it tries the releases of a
    package and goes back to it with ``rollback`` after each one that failed.
    """

    def __init__(self):
        self._table = {}

    def add(self, target, source, constraint):
        """Record one more demand on ``target``."""
        self._table.setdefault(target, []).append(Demand(target, source, constraint))

    def add_release(self, release):
        """Record everything that ``release`` requires."""
        for target, constraint in release.requires.items():
            self.add(target, str(release), constraint)

    def targets(self):
        """Names with at least one demand, in alphabetical order."""
        return sorted(self._table)

    def on(self, target):
        """The demands on ``target``, oldest first."""
        return tuple(self._table.get(target, ()))

    def admits(self, target, version):
        """True if ``version`` meets every demand on ``target``."""
        return all(demand.constraint.admits(version) for demand in self.on(target))

    def checkpoint(self):
        """A mark of the present state, to be given to ``rollback``."""
        return dict(self._table)

    def rollback(self, mark):
        """Return to the state at ``mark``, which stays usable."""
        self._table = dict(mark)
