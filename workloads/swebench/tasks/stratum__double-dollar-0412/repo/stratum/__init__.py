"""Layered configuration with references between values."""

from .config import Config
from .errors import ConfigError, MissingError, SyntaxProblem
from .loader import load

__all__ = ["Config", "ConfigError", "MissingError", "SyntaxProblem", "load"]
