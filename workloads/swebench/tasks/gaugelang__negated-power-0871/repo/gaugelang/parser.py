"""A Pratt parser for one line of source."""

from .errors import SyntaxFault
from .nodes import (BINARY, CONVERT, POWER, SIGN, Assign, Binary, Call, Convert, Literal,
                    Name, Negate)
from .tokens import tokenize
from .units import UNITS


def parse(text):
    """Return the tree of one assignment or expression."""
    return _Parser(tokenize(text)).line()


class _Parser:
    def __init__(self, tokens):
        self._tokens = tokens
        self._index = 0

    def line(self):
        first, second = self._tokens[0], self._tokens[min(1, len(self._tokens) - 1)]
        target = None
        if first.kind == "name" and self._is_op(second, "="):
            if first.value in UNITS or first.value == "to":
                raise SyntaxFault(f"{first.value!r} cannot be assigned to", first.column)
            target = first.value
            self._index = 2
        tree = self._expression(0)
        if self._peek().kind != "end":
            raise self._unexpected(self._peek())
        return tree if target is None else Assign(target, tree)

    # -- expressions ----------------------------------------------------------

    def _expression(self, floor):
        """Read an expression out of operators that bind tighter than ``floor``."""
        left = self._operand()
        while self._binding(self._peek()) > floor:
            left = self._infix(left, self._next())
        return left

    def _operand(self):
        token = self._next()
        if token.kind == "number":
            return Literal(token.value, self._unit_suffix())
        if token.kind == "name" and token.value != "to":
            if self._is_op(self._peek(), "("):
                self._next()
                return Call(token.value, self._arguments())
            return Name(token.value)
        if self._is_op(token, "-"):
            return Negate(self._expression(SIGN))
        if self._is_op(token, "("):
            inner = self._expression(0)
            self._expect(")")
            return inner
        raise self._unexpected(token)

    def _infix(self, left, token):
        if token.kind == "name":
            return Convert(left, self._unit_product())
        binding = BINARY[token.value]
        if binding == POWER:
            binding -= 1  # groups to the right
        return Binary(token.value, left, self._expression(binding))

    def _arguments(self):
        arguments = []
        if self._is_op(self._peek(), ")"):
            self._next()
            return ()
        while True:
            arguments.append(self._expression(0))
            if self._is_op(self._peek(), ","):
                self._next()
                continue
            self._expect(")")
            return tuple(arguments)

    # -- units ----------------------------------------------------------------

    def _unit_suffix(self):
        """The unit right behind a number, or no units at all."""
        token = self._peek()
        if token.kind != "name" or token.value == "to":
            return ()
        return (self._unit(1),)

    def _unit_product(self):
        """Units such as ``kg*m/s^2``, behind ``to``."""
        units = [self._unit(1)]
        while self._is_op(self._peek(), "*") or self._is_op(self._peek(), "/"):
            side = 1 if self._next().value == "*" else -1
            units.append(self._unit(side))
        return tuple(units)

    def _unit(self, side):
        token = self._next()
        if token.kind != "name" or token.value not in UNITS:
            raise SyntaxFault(f"{token.value!r} is not a unit", token.column)
        exponent = 1
        if self._is_op(self._peek(), "^"):
            self._next()
            exponent = self._unit_exponent()
        return (token.value, side * exponent)

    def _unit_exponent(self):
        token = self._next()
        if token.kind != "number" or token.value.denominator != 1 or token.value == 0:
            raise SyntaxFault("a unit takes a whole exponent", token.column)
        return int(token.value)

    # -- tokens ---------------------------------------------------------------

    def _peek(self):
        return self._tokens[self._index]

    def _next(self):
        token = self._tokens[self._index]
        if token.kind != "end":
            self._index += 1
        return token

    def _expect(self, value):
        token = self._next()
        if not self._is_op(token, value):
            raise self._unexpected(token)

    @staticmethod
    def _is_op(token, value):
        return token.kind == "op" and token.value == value

    @staticmethod
    def _binding(token):
        if token.kind == "name" and token.value == "to":
            return CONVERT
        return BINARY.get(token.value, 0) if token.kind == "op" else 0

    @staticmethod
    def _unexpected(token):
        if token.kind == "end":
            return SyntaxFault("the line ends too early", token.column)
        value = token.value
        return SyntaxFault(f"unexpected {str(value)!r}", token.column)
