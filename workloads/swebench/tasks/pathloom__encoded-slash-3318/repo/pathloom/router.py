"""The router: an ordered list of routes and a name index."""

from collections import namedtuple
from urllib.parse import urlencode

from .converters import DEFAULT
from .encoding import clean, split_target
from .errors import BuildError, MethodNotAllowed, NotFound, Redirect
from .template import Template

Match = namedtuple("Match", "endpoint params query template")
Route = namedtuple("Route", "template endpoint methods")


class Router:
    """Maps methods and paths to endpoints, and endpoints back to URLs."""

    def __init__(self, converters=None):
        self._converters = dict(DEFAULT, **(converters or {}))
        self._routes = []
        self._by_endpoint = {}

    def add(self, template, endpoint, methods=("GET",)):
        """Register *template*; routes are kept in order of their rank."""
        methods = frozenset(m.upper() for m in methods)
        if "GET" in methods:
            methods |= {"HEAD"}
        route = Route(Template(template, self._converters), endpoint, methods)
        self._routes.append(route)
        self._routes.sort(key=lambda r: r.template.rank())
        self._by_endpoint.setdefault(endpoint, []).append(route)

    def mount(self, prefix, other):
        """Add all routes of the router *other* below *prefix*."""
        for route in other._routes:
            self.add(prefix.rstrip("/") + route.template.source,
                     route.endpoint, route.methods)

    def match(self, method, target):
        """Find the route for a request.

        Raises NotFound, MethodNotAllowed, BadPath, or Redirect when only the
        trailing slash is wrong.
        """
        raw, query = split_target(target)
        path = clean(raw)
        found = self._find(method.upper(), path)
        if found is not None:
            route, values = found
            return Match(route.endpoint, values, query, route.template.source)
        other = path[:-1] if path.endswith("/") else path + "/"
        if other and self._any_method(other):
            raise Redirect(other if query is None else other + "?" + query)
        raise NotFound(path)

    def _find(self, method, path):
        allowed = set()
        for route in self._routes:
            values = route.template.match(path)
            if values is None:
                continue
            if method in route.methods:
                return route, values
            allowed |= route.methods
        if allowed:
            raise MethodNotAllowed(allowed)
        return None

    def _any_method(self, path):
        return any(r.template.match(path) is not None for r in self._routes)

    def build(self, endpoint, query=None, **values):
        """Return a URL for *endpoint*.

        Of several routes to one endpoint, the first whose variables are
        exactly the given values is used.
        """
        routes = self._by_endpoint.get(endpoint, ())
        for route in routes:
            if {v.name for v in route.template.variables} == set(values):
                path = route.template.build(values)
                return path + "?" + urlencode(query) if query else path
        raise BuildError("no route to %r takes %s"
                         % (endpoint, ", ".join(sorted(values)) or "no values"))
