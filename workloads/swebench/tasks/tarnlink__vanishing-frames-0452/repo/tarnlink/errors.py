"""Everything that can be wrong with bytes or messages."""


class LinkError(ValueError):
    """Base of all errors of this package."""


class FrameError(LinkError):
    """Bytes between two flags that are not a frame; ``kind`` names the counter."""

    def __init__(self, kind, reason):
        self.kind = kind
        super().__init__(reason)


class TlvError(LinkError):
    """A payload that is not well-formed TLV."""


class SchemaError(LinkError):
    """A message that does not agree with the schema."""
