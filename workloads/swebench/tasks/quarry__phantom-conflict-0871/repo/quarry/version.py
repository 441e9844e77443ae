"""Semantic versions: parsing, precedence and printing."""

import re
from functools import total_ordering

_PATTERN = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)


class VersionError(ValueError):
    """The text is not a semantic version."""


def _identifier_key(identifier):
    """Numeric identifiers compare as numbers and come before words."""
    if identifier.isdigit():
        return (0, int(identifier), "")
    return (1, 0, identifier)


@total_ordering
class Version:
    """One version; build metadata is kept for printing but has no precedence."""

    __slots__ = ("major", "minor", "patch", "pre", "build")

    def __init__(self, major, minor=0, patch=0, pre=(), build=""):
        self.major = major
        self.minor = minor
        self.patch = patch
        self.pre = tuple(pre)
        self.build = build

    @classmethod
    def parse(cls, text):
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise VersionError("not a semantic version: %r" % text)
        major, minor, patch, pre, build = match.groups()
        return cls(int(major), int(minor), int(patch),
                   tuple(pre.split(".")) if pre else (), build or "")

    @property
    def triple(self):
        return (self.major, self.minor, self.patch)

    def _key(self):
        # A release follows all of its own pre-releases.
        return (self.triple, not self.pre, tuple(_identifier_key(part) for part in self.pre))

    def __eq__(self, other):
        if not isinstance(other, Version):
            return NotImplemented
        return self._key() == other._key()

    def __lt__(self, other):
        if not isinstance(other, Version):
            return NotImplemented
        return self._key() < other._key()

    def __hash__(self):
        return hash(self._key())

    def __str__(self):
        text = "%d.%d.%d" % self.triple
        if self.pre:
            text += "-" + ".".join(self.pre)
        if self.build:
            text += "+" + self.build
        return text

    def __repr__(self):
        return "Version(%s)" % self
