"""Names of cells and of rectangular blocks of cells."""

import re
from collections import namedtuple

_NAME = re.compile(r"([A-Z]{1,3})([1-9][0-9]{0,5})")


class Ref(namedtuple("Ref", "row column")):
    """A cell by row and column, both from 1. Sorts row by row."""

    __slots__ = ()

    @classmethod
    def parse(cls, text):
        """``B7`` in either case; ``ValueError`` for anything else."""
        match = _NAME.fullmatch(text.strip().upper())
        if match is None:
            raise ValueError("not the name of a cell: %r" % text)
        return cls(int(match.group(2)), column_number(match.group(1)))

    @property
    def name(self):
        return column_name(self.column) + str(self.row)

    def __str__(self):
        return self.name


def column_number(letters):
    """A → 1, Z → 26, AA → 27."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def column_name(number):
    """1 → A, 26 → Z, 27 → AA."""
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


class Block(namedtuple("Block", "first last")):
    """A rectangle of cells, corners included. ``first`` is its upper left corner."""

    __slots__ = ()

    @classmethod
    def between(cls, one, other):
        """The block with two opposite corners, whichever they are."""
        rows, columns = sorted((one.row, other.row)), sorted((one.column, other.column))
        return cls(Ref(rows[0], columns[0]), Ref(rows[1], columns[1]))

    def cells(self):
        """Every cell, row by row."""
        for row in range(self.first.row, self.last.row + 1):
            for column in range(self.first.column, self.last.column + 1):
                yield Ref(row, column)

    def __contains__(self, ref):
        return (self.first.row <= ref.row <= self.last.row
                and self.first.column <= ref.column <= self.last.column)

    def __len__(self):
        return ((self.last.row - self.first.row + 1)
                * (self.last.column - self.first.column + 1))

    def __str__(self):
        return "%s:%s" % (self.first, self.last)
