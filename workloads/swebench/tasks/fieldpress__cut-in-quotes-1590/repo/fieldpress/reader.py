"""From delimited text to rows, piece by piece."""

import re

from .dialect import Dialect

CHUNK = 8192

# Where the reader is: before a field, in a plain field, between quotes, or
# behind the closing quote.
_START, _PLAIN, _QUOTED, _CLOSED = range(4)


class DamagedText(ValueError):
    """Quoting that a strict dialect refuses; ``line`` counts from 1."""

    def __init__(self, message, line):
        super().__init__(f"line {line}: {message}")
        self.line = line


class RowReader:
    """Takes text in pieces and gives back the rows that are complete.

    ``feed`` any number of pieces, then ``close`` once for what is left.
    """

    def __init__(self, dialect=None):
        self.dialect = dialect or Dialect()
        self.line = 1
        self._state = _START
        self._field = []
        self._row = []
        self._was_quoted = False
        self._done = False
        escape = self.dialect.escape or ""
        self._plain_stop = re.compile(f"[{re.escape(self.dialect.delimiter + escape)}\r\n]")
        self._quoted_stop = re.compile(f"[{re.escape(self.dialect.quote + escape)}]")

    def feed(self, text):
        """Take a piece of text; return the rows that end in it."""
        if self._done:
            raise ValueError("the reader is closed")
        rows = []
        position = 0
        while position < len(text):
            if self._state == _QUOTED:
                position = self._quoted(text, position)
            elif self._state == _START and text[position] == self.dialect.quote:
                self._state = _QUOTED
                self._was_quoted = True
                position += 1
            else:
                position = self._plain(text, position, rows)
        return rows

    def close(self):
        """Return the last row, if the text did not end with a line ending."""
        if self._done:
            raise ValueError("the reader is closed")
        self._done = True
        rows = []
        if self._state == _QUOTED:
            self._damaged("the text ends inside quotes")
        if self._row or self._state != _START:
            self._end_row(rows)
        return rows

    # -- inside and outside quotes ---------------------------------------------

    def _quoted(self, text, position):
        """Go on between quotes; return where to continue."""
        match = self._quoted_stop.search(text, position)
        stop = match.start() if match else len(text)
        self._take(text[position:stop])
        if not match:
            return stop
        following = text[stop + 1:stop + 2]
        if match.group() == self.dialect.escape:
            self._take(following or match.group())
            return stop + 2
        if following == self.dialect.quote:
            self._take(following)
            return stop + 2
        self._state = _CLOSED
        return stop + 1

    def _plain(self, text, position, rows):
        """Go on outside quotes; return where to continue."""
        match = self._plain_stop.search(text, position)
        stop = match.start() if match else len(text)
        if stop > position:
            self._enter_plain()
            self._take(text[position:stop])
        if not match:
            return stop
        following = text[stop + 1:stop + 2]
        if match.group() == self.dialect.delimiter:
            self._end_field()
            return stop + 1
        if match.group() == self.dialect.escape:
            self._enter_plain()
            self._take(following or match.group())
            return stop + 2
        self.line += 1
        if self._row or self._state != _START:
            self._end_row(rows)
        elif not self.dialect.skip_blank:
            rows.append([])
        return stop + 2 if match.group() + following == "\r\n" else stop + 1

    def _enter_plain(self):
        if self._state == _CLOSED:
            self._damaged("text behind a closing quote")
        self._state = _PLAIN

    # -- fields and rows --------------------------------------------------------

    def _take(self, text):
        self._field.append(text)
        self.line += text.count("\n")

    def _end_field(self):
        text = "".join(self._field)
        if not self._was_quoted and text == self.dialect.null:
            text = None
        self._row.append(text)
        self._field = []
        self._was_quoted = False
        self._state = _START

    def _end_row(self, rows):
        self._end_field()
        rows.append(self._row)
        self._row = []

    def _damaged(self, message):
        if self.dialect.strict:
            raise DamagedText(message, self.line)


def read_text(text, dialect=None):
    """All rows of a text that is in memory."""
    reader = RowReader(dialect)
    return reader.feed(text) + reader.close()


def read_stream(stream, dialect=None, chunk=CHUNK):
    """Yield the rows of an open text stream, reading ``chunk`` characters at a time."""
    reader = RowReader(dialect)
    while True:
        text = stream.read(chunk)
        if not text:
            break
        yield from reader.feed(text)
    yield from reader.close()


def read_path(path, dialect=None, chunk=CHUNK):
    """Yield the rows of a UTF-8 file."""
    with open(path, encoding="utf-8", newline="") as stream:
        yield from read_stream(stream, dialect, chunk)
