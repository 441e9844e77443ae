"""permitry: who may do what."""

from .errors import PolicyError
from .policy import Policy
from .rules import Rule

__all__ = ["Policy", "PolicyError", "Rule"]
