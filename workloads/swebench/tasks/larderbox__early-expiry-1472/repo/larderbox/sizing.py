"""Estimate how much a value weighs.

The numbers are meant to be stable and comparable, not exact: a character or a
byte counts 1, a number 8, and a container 16 plus its contents.
"""

NUMBER = 8
CONTAINER = 16


def measure(value):
    """Return the estimated size of *value* as a non-negative int."""
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, (bytes, bytearray)):
        return len(value)
    if isinstance(value, (int, float, complex)):
        return NUMBER
    if isinstance(value, dict):
        return CONTAINER + sum(measure(k) + measure(v)
                               for k, v in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return CONTAINER + sum(map(measure, value))
    return CONTAINER + measure(getattr(value, "__dict__", None))
