"""The one error that templates raise."""


class TemplateError(ValueError):
    """Something is wrong with a template, or with what it was given; ``line`` counts from 1."""

    def __init__(self, reason, line):
        self.line = line
        super().__init__("line %d: %s" % (line, reason))
