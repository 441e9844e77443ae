"""The exceptions that the package raises on purpose."""


class GaugeError(Exception):
    """Anything wrong with a line of source."""


class SyntaxFault(GaugeError):
    """A line that cannot be read; ``column`` counts from 1."""

    def __init__(self, message, column):
        super().__init__(f"column {column}: {message}")
        self.column = column


class EvaluationError(GaugeError):
    """A line that can be read but has no value."""
