"""inkpiece: a text that is edited."""

from .document import Document
from .pieces import PieceTable
from .search import find_all, replace_all

__all__ = ["Document", "PieceTable", "find_all", "replace_all"]
