"""The tree that the parser builds and the evaluator walks.

All nodes are named tuples, so two trees are equal where their parts are.
``units`` is a tuple of ``(symbol, exponent)`` pairs throughout.
"""

from collections import namedtuple

Literal = namedtuple("Literal", "value units")
Name = namedtuple("Name", "name")
Negate = namedtuple("Negate", "operand")
Binary = namedtuple("Binary", "op left right")
Call = namedtuple("Call", "name arguments")
Convert = namedtuple("Convert", "operand units")
Assign = namedtuple("Assign", "name value")

# How tightly each kind of expression holds together.  The parser and the
# formatter share this scale.
CONVERT, SUM, PRODUCT, SIGN, POWER, ATOM = 10, 20, 30, 40, 50, 60
BINARY = {"+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT, "^": POWER}
