"""querynook: queries over tables in memory."""

from .database import Database
from .errors import QueryError

__all__ = ["Database", "QueryError"]
