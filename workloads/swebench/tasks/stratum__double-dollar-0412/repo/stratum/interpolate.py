"""References and dollar signs in raw values."""

import re

# A doubled dollar sign in front of a brace makes the braces plain text.
REFERENCE = re.compile(r"(?<!\$)\$\{([^{}]*)\}")


def references(raw):
    """The names that a raw value refers to, in order of appearance."""
    return [match.group(1).strip() for match in REFERENCE.finditer(raw)]


def expand(raw, lookup):
    """Fill in every reference by `lookup(name)` and undouble dollar signs."""
    filled = REFERENCE.sub(lambda match: lookup(match.group(1).strip()), raw)
    return filled.replace("$$", "$")


def rewrite(raw, change):
    """The raw value with every name `n` that it refers to as `change(n)`."""
    return REFERENCE.sub(
        lambda match: "${%s}" % change(match.group(1).strip()), raw)


def escape(value):
    """The raw value that expands to exactly `value`."""
    return value.replace("$", "$$")
