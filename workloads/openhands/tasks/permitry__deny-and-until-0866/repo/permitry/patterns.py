"""Paths and patterns of paths."""

from .errors import PolicyError


def path_parts(path):
    """``/a/b`` → ``("a", "b")``; ``ValueError`` for what is no absolute path, and for ``.`` and ``..`` in it."""
    if not path.startswith("/"):
        raise ValueError("not an absolute path: %r" % path)
    parts = tuple(part for part in path.split("/") if part)
    if "." in parts or ".." in parts:
        raise ValueError("not a plain path: %r" % path)
    return parts


class Pattern:
    """Parts that are names, ``*`` or ``**``."""

    def __init__(self, parts):
        self.parts = tuple(parts)

    def fits(self, parts):
        """Whether a path's parts fit."""
        return _fits(self.parts, parts)

    def __str__(self):
        return "/" + "/".join(self.parts)



def _fits(wanted, parts):
    if not wanted:
        return not parts
    first, rest = wanted[0], wanted[1:]
    if first == "**":
        return any(_fits(rest, parts[skipped:]) for skipped in range(len(parts) + 1))
    return bool(parts) and first in ("*", parts[0]) and _fits(rest, parts[1:])


def pattern_of(text, line):
    """The pattern of a text in a line of a policy."""
    try:
        parts = path_parts(text)
    except ValueError as problem:
        raise PolicyError(str(problem), line) from None
    for part in parts:
        if "*" in part and part not in ("*", "**"):
            raise PolicyError("* stands for whole parts only: %s" % part, line)
    return Pattern(parts)
