"""Splitting texts into lines and putting them together again.

A line keeps its line ending, so that ``"".join(split(text)) == text`` for any
text.  Only LF (with an optional CR before it) ends a line: form feeds and the
like, which str.splitlines would cut at, are ordinary characters here.
"""


def split(text):
    """Split *text* after each LF."""
    lines = text.split("\n")
    last = lines.pop()
    lines = [line + "\n" for line in lines]
    if last:
        lines.append(last)
    return lines


def ending(lines, default="\n"):
    """Return the line ending of the first line that has one."""
    for line in lines:
        if line.endswith("\r\n"):
            return "\r\n"
        if line.endswith("\n"):
            return "\n"
    return default


def closed(lines, newline):
    """Return *lines* with the last one ended by *newline* if it is open."""
    if lines and not lines[-1].endswith("\n"):
        return lines[:-1] + [lines[-1] + newline]
    return list(lines)
