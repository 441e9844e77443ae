"""What is computed of the events of a window. Each aggregate sees one event after another."""


class Total:
    """Sum of the values."""

    def __init__(self):
        self.total = 0

    def add(self, event, order):
        self.total += event.value

    def result(self):
        return self.total


class Mean:
    """Mean of the values."""

    def __init__(self):
        self.total = 0
        self.count = 0

    def add(self, event, order):
        self.total += event.value
        self.count += 1

    def result(self):
        return self.total / self.count if self.count else None


class Smallest:
    """Smallest value."""

    def __init__(self):
        self.best = None

    def add(self, event, order):
        if self.best is None or event.value < self.best:
            self.best = event.value

    def result(self):
        return self.best


class Largest:
    """Largest value."""

    def __init__(self):
        self.best = None

    def add(self, event, order):
        if self.best is None or event.value > self.best:
            self.best = event.value

    def result(self):
        return self.best


class First:
    """Value of the earliest event; of equal ones, of the first to arrive."""

    def __init__(self):
        self.mark = None
        self.value = None

    def add(self, event, order):
        mark = (event.at, order)
        if self.mark is None or mark < self.mark:
            self.mark, self.value = mark, event.value

    def result(self):
        return self.value


class Last:
    """Value of the latest event; of equal ones, of the last to arrive."""

    def __init__(self):
        self.mark = None
        self.value = None

    def add(self, event, order):
        mark = (event.at, order)
        if self.mark is None or mark > self.mark:
            self.mark, self.value = mark, event.value

    def result(self):
        return self.value


AGGREGATES = {
    "total": Total,
    "mean": Mean,
    "smallest": Smallest,
    "largest": Largest,
    "first": First,
    "last": Last,
}
"""By the names that reports use."""
