"""Lines in order, with the variables they leave behind."""

from . import nodes
from .errors import EvaluationError, GaugeError
from .evaluator import evaluate
from .parser import parse


class Session:
    """A work sheet: run lines, keep variables."""

    def __init__(self):
        self.variables = {}

    def run(self, line):
        """Run one line and return its quantity."""
        tree = parse(line)
        if isinstance(tree, nodes.Assign):
            value = evaluate(tree.value, self.variables)
            self.variables[tree.name] = value
            return value
        return evaluate(tree, self.variables)

    def show(self, line):
        """Run one line and return its value as text."""
        return str(self.run(line))

    def script(self, text):
        """Run many lines; return the values of those that are not assignments.

        Blank lines and comments are skipped.  The first bad line stops the
        script, and its number is put in front of the message.
        """
        shown = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.split("#", 1)[0].strip():
                continue
            try:
                value = self.show(line)
            except GaugeError as error:
                raise EvaluationError(f"line {number}: {error}") from error
            if not isinstance(parse(line), nodes.Assign):
                shown.append(value)
        return shown
