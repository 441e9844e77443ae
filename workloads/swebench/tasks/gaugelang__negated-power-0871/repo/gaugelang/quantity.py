"""Exact values with dimensions."""

from fractions import Fraction

from .errors import EvaluationError
from .units import BASE, combine, spell


class Quantity:
    """A value in base units; ``shown`` names the units it is printed in."""

    def __init__(self, value, dims=(0,) * len(BASE), shown=()):
        self.value = Fraction(value)
        self.dims = dims
        self.shown = shown

    @classmethod
    def of(cls, value, units):
        """The quantity that a literal such as ``-5 degC`` stands for."""
        unit = combine(units)
        return cls(value * unit.scale + unit.zero, unit.dims)

    def to(self, units):
        """The same quantity, printed in ``units`` from now on."""
        if combine(units).dims != self.dims:
            raise EvaluationError(f"{self} cannot be given in {spell(units)}")
        return Quantity(self.value, self.dims, units)

    def __add__(self, other):
        self._match(other, "added")
        return Quantity(self.value + other.value, self.dims)

    def __sub__(self, other):
        self._match(other, "subtracted")
        return Quantity(self.value - other.value, self.dims)

    def __mul__(self, other):
        dims = tuple(a + b for a, b in zip(self.dims, other.dims))
        return Quantity(self.value * other.value, dims)

    def __truediv__(self, other):
        if other.value == 0:
            raise EvaluationError("division by zero")
        dims = tuple(a - b for a, b in zip(self.dims, other.dims))
        return Quantity(self.value / other.value, dims)

    def __neg__(self):
        return Quantity(-self.value, self.dims)

    def power(self, exponent):
        """This quantity to a whole, plain exponent."""
        if any(exponent.dims) or exponent.value.denominator != 1:
            raise EvaluationError("an exponent must be a whole number without units")
        count = int(exponent.value)
        if self.value == 0 and count < 0:
            raise EvaluationError("division by zero")
        return Quantity(self.value ** count, tuple(count * d for d in self.dims))

    def __str__(self):
        units = self.shown or tuple((b, d) for b, d in zip(BASE, self.dims) if d)
        if not units:
            return f"{float(self.value):.6g}"
        unit = combine(units)
        return f"{float((self.value - unit.zero) / unit.scale):.6g} {spell(units)}"

    def _match(self, other, verb):
        if self.dims != other.dims:
            raise EvaluationError(f"{self} and {other} cannot be {verb}")
