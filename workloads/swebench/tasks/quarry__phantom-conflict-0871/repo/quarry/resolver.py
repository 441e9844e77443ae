"""Backtracking search for a set of releases that fit together."""

from .constraint import Constraint
from .demands import Demands

ROOT = "the root"


class Unresolvable(Exception):
    """No choice of releases meets all demands.

    ``name`` is the package on which the search failed first, and ``demands``
    are the demands that were in force on it at that time.
    """

    def __init__(self, name, demands):
        self.name = name
        self.demands = tuple(demands)
        lines = ["no release of %s fits:" % name]
        lines.extend("  %s" % demand for demand in self.demands)
        super().__init__("\n".join(lines))


class Plan:
    """The outcome: one release per package, and the demands behind it."""

    def __init__(self, releases, demands):
        self._releases = dict(sorted(releases.items()))
        self._demands = demands

    @property
    def releases(self):
        return dict(self._releases)

    def versions(self):
        """``{name: version text}``, in alphabetical order."""
        return {name: str(release.version) for name, release in self._releases.items()}

    def why(self, name):
        """``(who, constraint text)`` for each demand on ``name``."""
        return [(demand.source, str(demand.constraint)) for demand in self._demands.on(name)]


class _Search:
    def __init__(self, catalog):
        self.catalog = catalog
        self.demands = Demands()
        self.chosen = {}
        self.first_failure = None

    def run(self):
        """Decide the next open package; True once nothing is left to decide."""
        name = self._next_open()
        if name is None:
            return True
        mark = self.demands.checkpoint()
        for release in self.catalog.releases(name):
            if not self.demands.admits(name, release.version):
                continue
            self.chosen[name] = release
            self.demands.add_release(release)
            if self._consistent(release) and self.run():
                return True
            del self.chosen[name]
            self.demands.rollback(mark)
        self._note_failure(name)
        return False

    def _next_open(self):
        for name in self.demands.targets():
            if name not in self.chosen:
                return name
        return None

    def _consistent(self, release):
        """Do the new demands leave each target its choice, or some candidate?"""
        for target in release.requires:
            picked = self.chosen.get(target)
            candidates = [picked] if picked is not None else self.catalog.releases(target)
            if not any(self.demands.admits(target, each.version) for each in candidates):
                self._note_failure(target)
                return False
        return True

    def _note_failure(self, name):
        if self.first_failure is None:
            self.first_failure = (name, self.demands.on(name))


def resolve(catalog, requirements):
    """Choose releases for ``requirements``, a mapping of name to constraint text.

    Raises ``Unresolvable`` if nothing fits.
    """
    search = _Search(catalog)
    for name, text in sorted(requirements.items()):
        search.demands.add(name, ROOT, Constraint.parse(text))
    if not search.run():
        raise Unresolvable(*search.first_failure)
    return Plan(search.chosen, search.demands)
