"""Routes in words."""

from .geometry import angle, heading, is_left


def directions(map, route):
    """A line for the start, one for each turn, one for the goal. Turns below 30 degrees are not told."""
    way = route.junctions
    lines = ["Start at %s%s." % (way[0], _towards(map, way[:2]))]
    since = 0.0
    for one, middle, other in zip(way, way[1:], way[2:]):
        since += map.road_between(one, middle).metres
        places = [map.place(each) for each in (one, middle, other)]
        if None in places:
            told = "at %s go on to %s" % (middle, other)
        elif one == other:
            told = "at %s turn round" % middle
        elif angle(*places) < 30:
            continue
        else:
            told = "at %s turn %s to %s" % (middle, "left" if is_left(*places) else "right", other)
        lines.append("After %d m %s." % (since, told))
        since = 0.0
    if len(way) > 1:
        since += map.road_between(way[-2], way[-1]).metres
    lines.append("After %d m you are at %s." % (since, way[-1]))
    return lines


def _towards(map, pair):
    places = [map.place(each) for each in pair]
    if len(places) < 2 or None in places:
        return ""
    return " and go %s" % heading(*places)
