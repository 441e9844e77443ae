"""What a template consists of."""

from collections import namedtuple

Text = namedtuple("Text", "text")
Show = namedtuple("Show", "expression")
Set = namedtuple("Set", "name expression")
If = namedtuple("If", "branches otherwise")
"""``branches`` are pairs of a condition and a body; a body is a list of nodes."""
For = namedtuple("For", "name expression body otherwise")
