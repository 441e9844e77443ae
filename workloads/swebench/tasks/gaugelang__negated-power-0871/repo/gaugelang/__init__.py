"""Arithmetic with units and variables."""

from .errors import EvaluationError, GaugeError, SyntaxFault
from .formatter import format_source
from .parser import parse
from .session import Session

__all__ = [
    "EvaluationError",
    "GaugeError",
    "Session",
    "SyntaxFault",
    "format_source",
    "parse",
]
