"""Functions of formulas. Each gets its arguments as lists of values; a single value is a list of one."""

from .errors import DIVISION, VALUE, CellError, Failed


def number_of(value):
    """``value`` as a number: empty is 0, texts are not numbers."""
    if isinstance(value, CellError):
        raise Failed(value)
    if value is None:
        return 0.0
    if isinstance(value, bool):
        return 1.0 if value else 0.0
    if isinstance(value, float):
        return value
    raise Failed(VALUE)


def text_of(value):
    """``value`` as a text, as ``&`` joins it."""
    if isinstance(value, CellError):
        raise Failed(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return "%d" % value if value == int(value) else repr(value)
    return value


def numbers(arguments):
    """The numbers among all arguments; texts and empty cells are passed over, errors are not."""
    found = []
    for values in arguments:
        for value in values:
            if isinstance(value, CellError):
                raise Failed(value)
            if isinstance(value, float):
                found.append(value)
    return found


def single(arguments, count):
    """Exactly ``count`` arguments of one value each."""
    if len(arguments) != count or any(len(values) != 1 for values in arguments):
        raise Failed(VALUE)
    return [values[0] for values in arguments]


def _average(arguments):
    found = numbers(arguments)
    if not found:
        raise Failed(DIVISION)
    return sum(found) / len(found)


def _if(arguments):
    condition, then, otherwise = single(arguments, 3)
    return then if number_of(condition) else otherwise


def _round(arguments):
    value, places = (number_of(each) for each in single(arguments, 2))
    return float(round(value, int(places)))


def _extreme(choose):
    def function(arguments):
        found = numbers(arguments)
        return choose(found) if found else 0.0
    return function


def _countif(arguments):
    if len(arguments) != 2 or len(arguments[1]) != 1:
        raise Failed(VALUE)
    wanted = arguments[1][0]
    return float(sum(1 for value in arguments[0] if value == wanted and value is not None))


FUNCTIONS = {
    "SUM": lambda arguments: float(sum(numbers(arguments))),
    "COUNT": lambda arguments: float(len(numbers(arguments))),
    "AVERAGE": _average,
    "MIN": _extreme(min),
    "MAX": _extreme(max),
    "IF": _if,
    "ROUND": _round,
    "ABS": lambda arguments: abs(number_of(single(arguments, 1)[0])),
    "LEN": lambda arguments: float(len(text_of(single(arguments, 1)[0]))),
    "UPPER": lambda arguments: text_of(single(arguments, 1)[0]).upper(),
    "COUNTIF": _countif,
}
