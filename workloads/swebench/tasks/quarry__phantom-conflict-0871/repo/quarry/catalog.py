"""The catalogue: which releases exist and what each of them requires."""

from .constraint import Constraint
from .version import Version


class Release:
    """One published version of one package."""

    def __init__(self, name, version, requires):
        self.name = name
        self.version = version
        self.requires = requires

    def __str__(self):
        return "%s %s" % (self.name, self.version)

    def __repr__(self):
        return "Release(%s)" % self


class Catalog:
    """All known releases, by package name."""

    def __init__(self):
        self._releases = {}

    @classmethod
    def from_mapping(cls, mapping):
        """Build from ``{name: {version: {required name: constraint}}}``."""
        catalog = cls()
        for name, versions in mapping.items():
            for version, requires in versions.items():
                catalog.add(name, version, requires)
        return catalog

    def add(self, name, version, requires=None):
        """Publish a release; versions and constraints are given as text."""
        parsed = Version.parse(version)
        known = self._releases.setdefault(name, {})
        if parsed in known:
            raise ValueError("%s %s is already in the catalogue" % (name, parsed))
        constraints = {
            target: Constraint.parse(text)
            for target, text in sorted((requires or {}).items())
        }
        known[parsed] = Release(name, parsed, constraints)

    def releases(self, name):
        """Releases of ``name``, newest first; empty if the name is unknown."""
        known = self._releases.get(name, {})
        return [known[version] for version in sorted(known, reverse=True)]

    def __contains__(self, name):
        return name in self._releases
