"""kilnrun: makes files from other files."""

from .builder import Builder
from .errors import BuildError, RecipeFailed, RuleError
from .rules import Rule, parse_rules
from .tree import Tree

__all__ = ["BuildError", "Builder", "RecipeFailed", "Rule", "RuleError", "Tree", "parse_rules"]
