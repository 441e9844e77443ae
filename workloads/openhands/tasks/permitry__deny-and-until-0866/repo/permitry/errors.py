"""The one error of policies."""


class PolicyError(ValueError):
    """A line that cannot be used; ``line`` counts from 1."""

    def __init__(self, reason, line):
        self.line = line
        super().__init__("line %d: %s" % (line, reason))
