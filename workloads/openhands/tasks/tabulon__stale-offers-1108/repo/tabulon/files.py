"""Sheets as text: ``NAME<tab>CONTENT`` a line, row by row, with ``\\n``, ``\\t`` and ``\\\\`` escaped."""

from .sheet import Sheet

_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\t", "\\t"))


def dump(sheet):
    """The sheet as text."""
    lines = []
    for name in sheet.names():
        content = sheet.content(name)
        for plain, escaped in _ESCAPES:
            content = content.replace(plain, escaped)
        lines.append("%s\t%s\n" % (name, content))
    return "".join(lines)


def load(text):
    """A sheet from text; ``ValueError`` names the line that cannot be used."""
    sheet, pending = Sheet(), []
    for number, line in enumerate(text.splitlines(), 1):
        if not line:
            continue
        name, separator, content = line.partition("\t")
        if not separator:
            raise ValueError("line %d has no tab: %r" % (number, line))
        pending.append((number, name, _unescaped(content)))
    # Formulas last: each is then computed from inputs that are there already, as far as they are constants.
    for number, name, content in sorted(pending, key=lambda each: each[2].startswith("=")):
        try:
            sheet.set(name, content)
        except ValueError as problem:
            raise ValueError("line %d: %s" % (number, problem)) from None
    for name in sheet.names():
        sheet.set(name, sheet.content(name))
    return sheet


def _unescaped(text):
    out, escaped = [], False
    for char in text:
        if escaped:
            out.append({"n": "\n", "t": "\t"}.get(char, char))
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            out.append(char)
    return "".join(out)
