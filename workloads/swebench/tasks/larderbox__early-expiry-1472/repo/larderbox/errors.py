"""The exceptions of the package."""


class LarderError(Exception):
    """Base class of everything raised on purpose."""


class TooLarge(LarderError, ValueError):
    """A single value is larger than the whole cache."""

    def __init__(self, key, size, capacity):
        super().__init__("%r needs %d of %d" % (key, size, capacity))
        self.key = key
        self.size = size


class TimeRanBackwards(LarderError, ValueError):
    """A call passed an earlier ``now`` than a call before it."""
