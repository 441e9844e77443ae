"""Functions that templates apply with ``|``. Nothing is shown for ``None``."""


def shown(value):
    """A value as templates show it."""
    if value is None:
        return ""
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return str(value)


def money(value, places=2):
    """``1234.5`` as ``1,234.50``."""
    return "{:,.{}f}".format(value, places)


def wrapped(value, width):
    """Words in lines of at most ``width`` characters."""
    lines = [""]
    for word in shown(value).split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = (lines[-1] + " " + word).strip()
    return "\n".join(lines)


FILTERS = {
    "upper": lambda value: shown(value).upper(),
    "lower": lambda value: shown(value).lower(),
    "title": lambda value: shown(value).title(),
    "trim": lambda value: shown(value).strip(),
    "length": lambda value: 0 if value is None else len(value),
    "join": lambda value, between="": between.join(shown(each) for each in value or ()),
    "default": lambda value, other: other if value is None or value == "" else value,
    "round": lambda value, places=0: round(value, places) if places else round(value),
    "sorted": lambda value: sorted(value or ()),
    "money": money,
    "wrap": wrapped,
}
