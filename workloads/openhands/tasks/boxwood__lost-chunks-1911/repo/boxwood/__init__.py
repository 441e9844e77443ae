"""boxwood: an archive that stores equal chunks of files once."""

from .archive import Archive
from .errors import BoxError, Damaged, NoSuchEntry, NotAContainer

__all__ = ["Archive", "BoxError", "Damaged", "NoSuchEntry", "NotAContainer"]
