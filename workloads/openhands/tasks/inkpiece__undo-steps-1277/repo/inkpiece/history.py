"""What was edited, in steps that are undone and done again as a whole. Nothing here touches a text."""

from collections import namedtuple

Edit = namedtuple("Edit", "kind at text gone before after")
"""``kind`` is type, backspace, delete or replace. At position ``at``, ``gone`` was replaced by ``text``; for deletions
``text`` is what was deleted, and ``gone`` the same. The cursor was at ``before``, and at ``after`` afterwards."""


class Step:
    """Edits that belong together, in order."""

    def __init__(self, edits):
        self.edits = edits

    def takes(self, edit):
        """Whether ``edit`` goes on with what this step does."""
        last = self.edits[-1]
        return edit.kind == last.kind == "type"


class History:
    """Steps, and how many of them are done."""

    def __init__(self, limit):
        if limit < 1:
            raise ValueError("limit must be at least 1, not %r" % limit)
        self._limit = limit
        self._steps = []
        self._at = 0
        self._saved = 0
        """How many steps were done when the text was saved; ``None`` if that is out of reach."""

    def record(self, edit):
        """Remember an edit that was made just now."""
        if self._steps and self._at == len(self._steps) and self._steps[-1].takes(edit):
            self._steps[-1].edits.append(edit)
        elif len(self._steps) < self._limit:
            self._steps.insert(self._at, Step([edit]))
            self._at += 1

    def back(self):
        """The step to undo, which then counts as undone; ``None`` if there is none."""
        if not self._at:
            return None
        self._at -= 1
        return self._steps[self._at]

    def forth(self):
        """The step to do again, which then counts as done; ``None`` if there is none."""
        if self._at == len(self._steps):
            return None
        self._at += 1
        return self._steps[self._at - 1]

    def mark_saved(self):
        """The text is saved as it is now."""
        self._saved = self._at

    @property
    def is_saved(self):
        """Whether the text is the one last saved."""
        return self._saved is not None and self._saved <= self._at

    def sizes(self):
        """How many edits each step has, oldest first."""
        return [len(step.edits) for step in self._steps]
