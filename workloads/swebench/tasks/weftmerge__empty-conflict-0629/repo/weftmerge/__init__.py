"""weftmerge: three-way merging of texts, line by line."""

from .chunks import Conflict, Stable
from .markers import MarkerError, parse, render
from .merge import MergeResult, merge

__all__ = ["Conflict", "MarkerError", "MergeResult", "Stable", "merge",
           "parse", "render"]
