"""What can go wrong."""


class MapError(ValueError):
    """A line of a map that cannot be used; ``line`` counts from 1."""

    def __init__(self, reason, line):
        self.line = line
        super().__init__("line %d: %s" % (line, reason))


class NoRoute(Exception):
    """There is no way."""

    def __init__(self, start, goal):
        self.start = start
        self.goal = goal
        super().__init__("there is no way from %s to %s" % (start, goal))
