"""tabulon: a small spreadsheet engine."""

from .errors import CellError, FormulaError
from .files import dump, load
from .refs import Block, Ref
from .sheet import Sheet

__all__ = ["Block", "CellError", "FormulaError", "Ref", "Sheet", "dump", "load"]
