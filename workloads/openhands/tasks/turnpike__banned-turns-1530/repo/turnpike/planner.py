"""Finds the cheapest routes."""

import heapq
from collections import namedtuple

from .errors import NoRoute
from .geometry import is_left

Route = namedtuple("Route", "junctions metres seconds cost")
"""``cost`` is what was made small: metres, or seconds with penalties."""

LEFT_TURN_S = 20.0


class Planner:
    """Plans on a map that does not change meanwhile."""

    def __init__(self, map):
        self._map = map

    def route(self, start, goal, via=(), by="distance"):
        """The cheapest route from ``start`` over the ``via`` points, in order, to ``goal``.

        ``NoRoute`` if there is none, ``KeyError`` for a junction that is not on the map.
        """
        if by not in ("distance", "time"):
            raise ValueError("by must be distance or time, not %r" % by)
        for junction in (start, *via, goal):
            if junction not in self._map:
                raise KeyError(junction)
        cost, way = 0.0, [start]
        for stop in [*via, goal]:
            found = self._search(way[-1], stop, by)
            if found is None:
                raise NoRoute(start, goal)
            cost += found[0]
            way += found[1][1:]
        return Route(way, *self._measure(way), cost)

    def _search(self, start, goal, by):
        """The cheapest way from ``start`` to ``goal``: ``(cost, [junction, …])``."""
        costs, before = {start: 0.0}, {start: None}
        queue, done = [(0.0, start)], set()
        while queue:
            cost, junction = heapq.heappop(queue)
            if junction in done:
                continue
            done.add(junction)
            if junction == goal:
                return cost, self._way(junction, before)
            for road in self._map.roads_from(junction):
                come_from = before[junction]
                if road.end != goal and self._map.is_banned(come_from, junction, road.end):
                    continue
                then = cost + self._cost(road, by) + self._turn_cost(come_from, junction, road.end, by)
                if then < costs.get(road.end, float("inf")):
                    costs[road.end] = then
                    before[road.end] = junction
                    heapq.heappush(queue, (then, road.end))
        return None

    @staticmethod
    def _way(junction, before):
        way = []
        while junction is not None:
            way.append(junction)
            junction = before[junction]
        return way[::-1]

    @staticmethod
    def _cost(road, by):
        return road.metres if by == "distance" else road.metres / road.speed * 3.6

    def _turn_cost(self, come_from, junction, towards, by):
        """The penalty of a turn: for left ones, by time."""
        if by == "distance" or come_from is None:
            return 0.0
        places = [self._map.place(each) for each in (come_from, junction, towards)]
        if None in places:
            return 0.0
        return LEFT_TURN_S if is_left(*places) else 0.0

    def _measure(self, way):
        """Metres and seconds of a way, seconds without penalties."""
        roads = [self._map.road_between(one, other) for one, other in zip(way, way[1:])]
        return sum(road.metres for road in roads), sum(self._cost(road, "time") for road in roads)
