"""What can go wrong, by who has to mend it."""


class ConfigError(Exception):
    """The configuration is at fault."""


class SyntaxProblem(ConfigError):
    """A line that cannot be read."""

    def __init__(self, layer, line, message):
        super().__init__("%s, line %d: %s" % (layer, line, message))
        self.layer = layer
        self.line = line


class MissingError(ConfigError):
    """A key, or the target of a reference, that no layer defines."""
