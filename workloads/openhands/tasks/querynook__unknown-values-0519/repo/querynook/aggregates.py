"""Functions over all rows of a group."""


def aggregate(name, values):
    """``COUNT``, ``SUM``, ``AVG``, ``MIN`` or ``MAX`` of some values; unknown ones are passed over."""
    if name == "COUNT":
        return len(values)
    if name == "SUM":
        return sum(values)
    if name == "AVG":
        return sum(values) / len(values)
    return min(values) if name == "MIN" else max(values)
