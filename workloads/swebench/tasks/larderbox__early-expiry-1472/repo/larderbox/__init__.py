"""larderbox: a cache with a size budget, deadlines, tags and statistics."""

from .cache import Cache
from .errors import LarderError, TimeRanBackwards, TooLarge
from .scope import Scope
from .stats import Stats

__all__ = ["Cache", "LarderError", "Scope", "Stats", "TimeRanBackwards",
           "TooLarge"]
