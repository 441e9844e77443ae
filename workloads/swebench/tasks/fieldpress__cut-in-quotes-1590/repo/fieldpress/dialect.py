"""What a flavour of delimited text looks like."""

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Dialect:
    """The special characters of a flavour, and how forgiving its reader is.

    ``escape`` makes the next character ordinary, inside quotes and outside.
    ``null`` is the unquoted text that stands for ``None``.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: Optional[str] = None
    newline: str = "\n"
    null: Optional[str] = None
    skip_blank: bool = True
    strict: bool = False

    def __post_init__(self):
        special = [self.delimiter, self.quote]
        if self.escape is not None:
            special.append(self.escape)
        for char in special:
            if len(char) != 1 or char in "\r\n":
                raise ValueError(f"not usable as a special character: {char!r}")
        if len(set(special)) != len(special):
            raise ValueError("delimiter, quote and escape must differ")
        if self.newline not in ("\n", "\r\n", "\r"):
            raise ValueError(f"not a line ending: {self.newline!r}")
        if self.null is not None and any(c in self.null for c in special[:2] + ["\r", "\n"]):
            raise ValueError("the null text may not hold special characters")

    @property
    def special(self):
        """All characters that cannot stand in a plain field as they are."""
        return self.delimiter + self.quote + "\r\n" + (self.escape or "")
