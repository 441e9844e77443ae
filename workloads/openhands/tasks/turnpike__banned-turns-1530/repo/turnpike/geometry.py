"""Turns on the plane. x grows to the east and y to the north."""

import math


def is_left(one, middle, other):
    """Whether who comes from ``one`` turns left at ``middle`` to get to ``other``. Straight on and back are not left."""
    (x1, y1), (x2, y2), (x3, y3) = one, middle, other
    if abs(x2 - x1) > abs(y2 - y1):
        return y3 > y2
    return x3 < x2


def angle(one, middle, other):
    """By how many degrees the direction changes at ``middle``: 0 is straight on, 180 is back."""
    (x1, y1), (x2, y2), (x3, y3) = one, middle, other
    before, after = math.atan2(y2 - y1, x2 - x1), math.atan2(y3 - y2, x3 - x2)
    turned = abs(math.degrees(after - before)) % 360
    return min(turned, 360 - turned)


def heading(one, other):
    """The direction from ``one`` to ``other`` as one of eight words."""
    names = ["east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east"]
    turned = math.degrees(math.atan2(other[1] - one[1], other[0] - one[0])) % 360
    return names[int((turned + 22.5) // 45) % 8]
