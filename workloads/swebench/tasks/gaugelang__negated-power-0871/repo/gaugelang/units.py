"""The table of units: a scale to base units, dimensions and a zero point."""

from collections import namedtuple
from fractions import Fraction

from .errors import EvaluationError

BASE = ("m", "kg", "s", "K")

# ``zero`` is the base value at which a scale of its own reads nought.
Unit = namedtuple("Unit", "scale dims zero")


def _unit(scale, m=0, kg=0, s=0, K=0, zero="0"):
    return Unit(Fraction(scale), (m, kg, s, K), Fraction(zero))


UNITS = {
    "mm": _unit("0.001", m=1),
    "cm": _unit("0.01", m=1),
    "m": _unit(1, m=1),
    "km": _unit(1000, m=1),
    "g": _unit("0.001", kg=1),
    "kg": _unit(1, kg=1),
    "s": _unit(1, s=1),
    "min": _unit(60, s=1),
    "h": _unit(3600, s=1),
    "N": _unit(1, kg=1, m=1, s=-2),
    "J": _unit(1, kg=1, m=2, s=-2),
    "W": _unit(1, kg=1, m=2, s=-3),
    "K": _unit(1, K=1),
    "degC": _unit(1, K=1, zero="273.15"),
    "degF": _unit(Fraction(5, 9), K=1, zero=Fraction(45967, 180)),
}


def combine(units):
    """One :class:`Unit` for a tuple of ``(symbol, exponent)`` pairs."""
    if len(units) == 1 and units[0][1] == 1:
        return UNITS[units[0][0]]
    scale, dims = Fraction(1), (0,) * len(BASE)
    for symbol, exponent in units:
        unit = UNITS[symbol]
        if unit.zero:
            raise EvaluationError(f"{symbol} cannot be part of a compound unit")
        scale *= unit.scale ** exponent
        dims = tuple(a + exponent * b for a, b in zip(dims, unit.dims))
    return Unit(scale, dims, Fraction(0))


def spell(units):
    """Write units as the parser reads them behind ``to``."""
    text = ""
    for symbol, exponent in units:
        if text:
            text += "/" if exponent < 0 else "*"
            exponent = abs(exponent)
        text += symbol if exponent == 1 else f"{symbol}^{exponent}"
    return text
