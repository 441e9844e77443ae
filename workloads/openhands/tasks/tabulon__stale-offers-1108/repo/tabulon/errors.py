"""Errors of two kinds: formulas that cannot be read, and values that cells take when they cannot be computed."""


class FormulaError(ValueError):
    """A formula that cannot be read; ``position`` counts characters from 0."""

    def __init__(self, reason, position):
        self.position = position
        super().__init__("%s (at %d)" % (reason, position))


class CellError:
    """A value that stands for a failed computation. There is one object for each code."""

    _known = {}

    def __new__(cls, code):
        if code not in cls._known:
            made = super().__new__(cls)
            made.code = code
            cls._known[code] = made
        return cls._known[code]

    def __repr__(self):
        return self.code

    __str__ = __repr__


DIVISION = CellError("#DIV/0!")
VALUE = CellError("#VALUE!")
NAME = CellError("#NAME?")
CYCLE = CellError("#CYCLE!")


class Failed(Exception):
    """Ends the computation of a cell with ``error`` as its value."""

    def __init__(self, error):
        self.error = error
        super().__init__(error.code)
