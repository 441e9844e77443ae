"""A sheet: what people wrote into cells, what the cells are worth, and who wants to know of changes."""

from . import errors
from .evaluate import evaluate
from .graph import Graph
from .parser import mentioned, parse
from .refs import Ref


def same(one, other):
    """Whether two values show the same. ``1.0`` and ``True`` do not, although Python calls them equal."""
    return type(one) is type(other) and one == other


class Sheet:
    """Cells by name. Values are floats, texts, booleans, ``CellError`` or ``None`` for empty cells."""

    def __init__(self):
        self._contents = {}
        self._trees = {}
        self._values = {}
        self._graph = Graph()
        self._listeners = []

    def on_change(self, listener):
        """Call ``listener(name)`` once for each cell whose value changes by an edit."""
        self._listeners.append(listener)

    def set(self, name, content):
        """Write ``content`` into a cell, as a person would type it. An empty text clears the cell.

        ``FormulaError`` for a formula that cannot be read; the cell then stays as it was.
        """
        ref = Ref.parse(name)
        content = content.strip()
        if not content:
            self._forget(ref)
        elif content.startswith("="):
            tree = parse(content[1:])
            self._contents[ref] = content
            self._trees[ref] = tree
            self._graph.note(ref, *mentioned(tree))
        else:
            self._contents[ref] = content
            self._trees.pop(ref, None)
            self._graph.note(ref)
        self._update(ref)

    def clear(self, name):
        """Empty a cell."""
        self.set(name, "")

    def content(self, name):
        """What was written into a cell; an empty text if nothing was."""
        return self._contents.get(Ref.parse(name), "")

    def value(self, name):
        """What a cell is worth."""
        return self._values.get(Ref.parse(name))

    def names(self):
        """Names of all cells that are not empty, row by row."""
        return [ref.name for ref in sorted(self._contents)]

    def _forget(self, ref):
        self._contents.pop(ref, None)
        self._trees.pop(ref, None)
        self._graph.forget(ref)

    def _update(self, ref):
        order = self._graph.order_after(ref)
        circular = self._graph.in_or_behind_circles(order)
        for cell in order:
            self._compute(cell, cell in circular)
            for user in sorted(self._graph.users_of(cell)):
                self._tell(user)
            self._tell(cell)

    def _compute(self, ref, circular):
        """Bring the value of one cell up to date with its content and with the values that it uses."""
        if ref not in self._contents:
            self._values.pop(ref, None)
        elif circular:
            self._values[ref] = errors.CYCLE
        elif ref in self._trees:
            self._values[ref] = evaluate(self._trees[ref], self._values.get)
        else:
            self._values[ref] = constant(self._contents[ref])

    def _tell(self, ref):
        for listener in self._listeners:
            listener(ref.name)


def constant(content):
    """A number if it looks like one, TRUE and FALSE, else the text itself; a leading ' forces a text."""
    if content.startswith("'"):
        return content[1:]
    if content.upper() in ("TRUE", "FALSE"):
        return content.upper() == "TRUE"
    try:
        return float(content)
    except ValueError:
        return content
