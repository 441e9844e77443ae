"""What can go wrong."""


class BuildError(Exception):
    """Any of them."""


class RuleError(BuildError, ValueError):
    """Rules that cannot be understood; ``line`` counts from 1, 0 if no single line is to blame."""

    def __init__(self, reason, line=0):
        self.line = line
        super().__init__("line %d: %s" % (line, reason) if line else reason)


class RecipeFailed(BuildError):
    """A recipe could not make its target."""

    def __init__(self, target, reason):
        self.target = target
        super().__init__("%s cannot be made: %s" % (target, reason))
