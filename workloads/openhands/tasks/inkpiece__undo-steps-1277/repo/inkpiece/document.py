"""A text with a cursor and a history."""

from .history import Edit, History
from .pieces import PieceTable


class Document:
    """What an editor works on. ``limit`` is how many steps can be undone."""

    def __init__(self, text="", limit=1000):
        self._table = PieceTable(text)
        self._history = History(limit)
        self._cursor = 0

    @property
    def text(self):
        return str(self._table)

    @property
    def cursor(self):
        """Position of the cursor, from 0 to the length of the text."""
        return self._cursor

    @property
    def modified(self):
        """Whether the text differs from the one last saved."""
        return not self._history.is_saved

    def __len__(self):
        return len(self._table)

    def move(self, position):
        """Put the cursor at ``position``, or as near to it as the text goes."""
        position = max(0, min(position, len(self._table)))
        self._cursor = position

    def type(self, text):
        """Insert characters at the cursor, one by one."""
        for char in text:
            self._do(Edit("type", self._cursor, char, "", self._cursor, self._cursor + 1))

    def backspace(self):
        """Delete the character before the cursor, if there is one."""
        if self._cursor:
            at = self._cursor - 1
            gone = self._table.slice(at, at + 1)
            self._do(Edit("backspace", at, gone, gone, self._cursor, at))

    def delete(self):
        """Delete the character behind the cursor, if there is one."""
        if self._cursor < len(self._table):
            gone = self._table.slice(self._cursor, self._cursor + 1)
            self._do(Edit("delete", self._cursor, gone, gone, self._cursor, self._cursor))

    def replace(self, start, end, text):
        """Put ``text`` in the place of the characters from ``start`` up to ``end``; the cursor goes behind it."""
        if not 0 <= start <= end <= len(self._table):
            raise IndexError("%d to %d is outside of the text (0 to %d)" % (start, end, len(self._table)))
        gone = self._table.slice(start, end)
        if gone or text:
            self._do(Edit("replace", start, text, gone, self._cursor, start + len(text)))

    def undo(self):
        """Take the last step back; whether there was one."""
        step = self._history.back()
        if step is None:
            return False
        for edit in reversed(step.edits):
            self._revert(edit)
            self._cursor = edit.at
        return True

    def redo(self):
        """Do the step again that was undone last; whether there was one."""
        step = self._history.forth()
        if step is None:
            return False
        for edit in step.edits:
            self._apply(edit)
            self._cursor = edit.at + len(edit.text)
        return True

    def save(self):
        """The text, which counts as saved from now on."""
        self._history.mark_saved()
        return self.text

    def line_of(self, position):
        """``(line, column)`` of a position, both from 1."""
        before = self._table.slice(0, position)
        return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1

    def _do(self, edit):
        self._apply(edit)
        self._cursor = edit.after
        self._history.record(edit)

    def _apply(self, edit):
        if edit.gone:
            self._table.delete(edit.at, len(edit.gone))
        if edit.kind in ("type", "replace"):
            self._table.insert(edit.at, edit.text)

    def _revert(self, edit):
        if edit.kind in ("type", "replace"):
            self._table.delete(edit.at, len(edit.text))
        self._table.insert(edit.at, edit.gone)
