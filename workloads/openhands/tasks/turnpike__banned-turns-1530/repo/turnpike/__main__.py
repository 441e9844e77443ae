"""``python -m turnpike MAP FROM TO [VIA …]``: a route in words."""

import sys
from pathlib import Path

from .directions import directions
from .errors import MapError, NoRoute
from .map import Map
from .planner import Planner


def main(arguments, out):
    """Exit code 0, 1 if there is no way, 2 with a line about how to call it."""
    if len(arguments) < 3:
        out.write("usage: turnpike MAP FROM TO [VIA ...]\n")
        return 2
    try:
        town = Map.read(Path(arguments[0]).read_text(encoding="utf-8"))
        route = Planner(town).route(arguments[1], arguments[2], arguments[3:])
    except (OSError, MapError, NoRoute) as problem:
        out.write("%s\n" % problem)
        return 1
    except KeyError as missing:
        out.write("there is no junction %s\n" % missing.args[0])
        return 1
    for line in directions(town, route):
        out.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout))
