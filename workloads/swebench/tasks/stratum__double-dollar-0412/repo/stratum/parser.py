"""Reads the text of one layer into sections of raw values."""

import re

from .errors import SyntaxProblem

NAME = re.compile(r"[A-Za-z0-9_-]+")
DEFAULT = "default"


def parse(text, layer="text"):
    """Return {section: {key: raw value}}; references are left alone.

    Lines are '[section]', 'key = value', comments ('#' or ';' in front) or
    blank. An indented line continues the value above it after one space.
    Double quotes around a value keep its outer blanks.
    """
    sections = {}
    current, key = sections.setdefault(DEFAULT, {}), None
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if line[0] in " \t":
            if key is None:
                raise SyntaxProblem(layer, number, "nothing to continue")
            current[key] += " " + stripped
        elif stripped[0] == "[":
            name = stripped[1:-1].strip()
            if stripped[-1] != "]" or not NAME.fullmatch(name):
                raise SyntaxProblem(layer, number, "bad section %r" % stripped)
            current, key = sections.setdefault(name.lower(), {}), None
        else:
            name, equals, value = stripped.partition("=")
            key = name.strip().lower()
            if not equals or not NAME.fullmatch(key):
                raise SyntaxProblem(layer, number, "expected 'key = value'")
            if key in current:
                raise SyntaxProblem(layer, number, "second value for %r" % key)
            current[key] = value.strip()
    return {section: {key: unquote(raw) for key, raw in values.items()}
            for section, values in sections.items()}


def unquote(raw):
    """Drop one pair of double quotes around a value."""
    if len(raw) >= 2 and raw[0] == raw[-1] == '"':
        return raw[1:-1]
    return raw


def quote(value):
    """The inverse of `unquote`, with quotes only where they are needed."""
    if value != value.strip() or value[:1] == '"':
        return '"%s"' % value
    return value
