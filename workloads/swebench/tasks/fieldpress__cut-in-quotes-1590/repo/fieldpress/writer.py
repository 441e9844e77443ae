"""From rows to delimited text."""

from .dialect import Dialect


def format_row(row, dialect=None):
    """One row, without its line ending."""
    dialect = dialect or Dialect()
    fields = [_format_field(value, dialect) for value in row]
    if fields == [""]:
        return dialect.quote * 2  # or it would read as a blank line
    return dialect.delimiter.join(fields)


def write_text(rows, dialect=None):
    """All rows, each with the dialect's line ending."""
    dialect = dialect or Dialect()
    return "".join(format_row(row, dialect) + dialect.newline for row in rows)


def _format_field(value, dialect):
    if value is None:
        if dialect.null is None:
            raise ValueError("this dialect has no text for None")
        return dialect.null
    text = str(value)
    if not _needs_quotes(text, dialect):
        return text
    if dialect.escape is not None:
        text = text.replace(dialect.escape, dialect.escape * 2)
        text = text.replace(dialect.quote, dialect.escape + dialect.quote)
    else:
        text = text.replace(dialect.quote, dialect.quote * 2)
    return dialect.quote + text + dialect.quote


def _needs_quotes(text, dialect):
    return text == dialect.null or any(char in text for char in dialect.special)
