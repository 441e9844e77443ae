"""quillfind: a search index in memory."""

from .index import Index
from .query import parse_query
from .snippets import snippet
from .tokens import words

__all__ = ["Index", "parse_query", "snippet", "words"]
