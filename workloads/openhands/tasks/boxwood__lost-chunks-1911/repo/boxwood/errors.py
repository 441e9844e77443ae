"""What can go wrong with an archive."""


class BoxError(Exception):
    """Any of them."""


class NoSuchEntry(BoxError, KeyError):
    """There is no entry of that name."""

    def __str__(self):
        return "there is no entry %r" % self.args[0]


class Damaged(BoxError):
    """An entry cannot be read: one of its chunks is missing or has changed."""


class NotAContainer(BoxError, ValueError):
    """Bytes that are no container, or a broken one; ``at`` is the offset where that was noticed."""

    def __init__(self, reason, at):
        self.at = at
        super().__init__("%s (at byte %d)" % (reason, at))
