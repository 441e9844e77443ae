"""Which cells a cell's formula mentions, and which cells have to be computed again after a change."""


class Graph:
    """Who uses whom. Cells without a formula may be used, too; they use nobody."""

    def __init__(self):
        self._cells = {}
        self._users = {}

    def note(self, cell, cells=(), ranges=()):
        """``cell`` mentions ``cells`` and ``ranges`` from now on, and nothing else."""
        known = set(self._cells)
        self.forget(cell)
        inside = {other for block in ranges for other in block.cells() if other in known}
        self._cells[cell] = set(cells) | inside
        for other in self._cells[cell]:
            self._users.setdefault(other, set()).add(cell)

    def forget(self, cell):
        """``cell`` is empty from now on. Others may still mention it."""
        for other in self._cells.pop(cell, ()):
            self._drop(self._users, other, cell)

    @staticmethod
    def _drop(table, key, cell):
        users = table.get(key)
        if users is not None:
            users.discard(cell)
            if not users:
                del table[key]

    def users_of(self, cell):
        """The cells whose formulas mention ``cell``, by itself or within a range."""
        return set(self._users.get(cell, ()))

    def inputs_of(self, cell):
        """The cells that the formula of ``cell`` mentions and that are known to the graph."""
        return set(self._cells.get(cell, ()))

    def _reach(self, start):
        """``start`` and every cell that uses it, directly or over others."""
        seen, pending = {start}, [start]
        while pending:
            for user in self.users_of(pending.pop()):
                if user not in seen:
                    seen.add(user)
                    pending.append(user)
        return seen

    def order_after(self, changed):
        """Every cell that has to be computed again if ``changed`` is, the nearest ones first."""
        order, level = [], [changed]
        seen = {changed}
        while level:
            order.extend(level)
            following = []
            for cell in level:
                for user in sorted(self.users_of(cell)):
                    if user not in seen:
                        seen.add(user)
                        following.append(user)
            level = following
        return order

    def in_or_behind_circles(self, cells):
        """Those of ``cells`` that can reach a circle by following their inputs, or are in one."""
        return {cell for cell in cells if self._leads_to_circle(cell)}

    def _leads_to_circle(self, cell):
        """Whether following the inputs of ``cell`` leads round in a circle somewhere."""
        done, path = set(), set()
        pending = [(cell, False)]
        while pending:
            here, leaving = pending.pop()
            if leaving:
                path.discard(here)
                done.add(here)
                continue
            if here in done:
                continue
            if here in path:
                continue
            path.add(here)
            pending.append((here, True))
            for source in self.inputs_of(here):
                if source in path:
                    return True
                if source not in done:
                    pending.append((source, False))
        return False
