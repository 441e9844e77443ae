"""Results as a table of plain text."""


def _cell(value):
    if value is None:
        return "-"
    if isinstance(value, float):
        return "%d" % value if value == int(value) else "%.3f" % value
    return str(value)


def table(results):
    """One line a result, columns aligned; an empty text without results."""
    results = list(results)
    if not results:
        return ""
    names = sorted({name for result in results for name in result.values})
    rows = [["key", "start", "end", "count"] + names]
    for result in results:
        row = [result.key, result.start, result.end, result.count]
        rows.append([_cell(value) for value in row + [result.values.get(name) for name in names]])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
