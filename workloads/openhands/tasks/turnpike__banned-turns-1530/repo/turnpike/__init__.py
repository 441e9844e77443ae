"""turnpike: routes on a map of roads."""

from .errors import MapError, NoRoute
from .directions import directions
from .map import Map, Road
from .planner import Planner, Route

__all__ = ["Map", "MapError", "NoRoute", "Planner", "Road", "Route", "directions"]
