"""tidecache: a cache with a budget of bytes."""

from .cache import Cache
from .errors import TooLarge
from .memoize import memoize
from .stats import Stats

__all__ = ["Cache", "Stats", "TooLarge", "memoize"]
