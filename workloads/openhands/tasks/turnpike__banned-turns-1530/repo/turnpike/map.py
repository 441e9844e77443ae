"""Junctions, the roads between them, and turns that are banned."""

from collections import namedtuple

from .errors import MapError

Road = namedtuple("Road", "start end metres speed")
"""One direction of a road; ``speed`` is in km/h."""

DEFAULT_SPEED = 50.0


class Map:
    """Roads by the junction where they start."""

    def __init__(self):
        self._roads = {}
        self._bans = set()
        self._places = {}

    @classmethod
    def read(cls, text):
        """A map from text; ``MapError`` names the line that cannot be used."""
        found = cls()
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            try:
                found._line(words)
            except (ValueError, IndexError):
                raise MapError("cannot be used: %s" % line.strip(), number) from None
        return found

    def _line(self, words):
        kind, *rest = words
        if kind == "road":
            start, end, metres, *more = rest
            speed, oneway = DEFAULT_SPEED, False
            while more:
                word = more.pop(0)
                if word == "oneway":
                    oneway = True
                elif word == "speed":
                    speed = float(more.pop(0))
                else:
                    raise ValueError(word)
            self.road(start, end, float(metres), speed, oneway)
        elif kind == "ban":
            come_from, junction, towards = rest
            self._bans.add((come_from, junction, towards))
        elif kind == "at":
            junction, x, y = rest
            self._places[junction] = (float(x), float(y))
        else:
            raise ValueError(kind)

    def road(self, start, end, metres, speed=DEFAULT_SPEED, oneway=False):
        """Add a road. Of two roads between the same junctions, the shorter one stays."""
        if metres <= 0 or speed <= 0 or start == end:
            raise ValueError("not a road: %s %s" % (start, end))
        pairs = [(start, end)] if oneway else [(start, end), (end, start)]
        for one, other in pairs:
            roads = self._roads.setdefault(one, {})
            self._roads.setdefault(other, {})
            if other not in roads or metres < roads[other].metres:
                roads[other] = Road(one, other, metres, speed)

    def junctions(self):
        return sorted(self._roads)

    def __contains__(self, junction):
        return junction in self._roads

    def roads_from(self, junction):
        """Roads that start at a junction, by where they end."""
        return [road for _end, road in sorted(self._roads[junction].items())]

    def road_between(self, start, end):
        """The road from one junction to a neighbour; ``KeyError`` if there is none."""
        return self._roads[start][end]

    def is_banned(self, come_from, junction, towards):
        return (come_from, junction, towards) in self._bans

    def place(self, junction):
        """``(x, y)`` in metres, or ``None``."""
        return self._places.get(junction)
