"""Everything that pathloom raises on purpose."""


class RouterError(Exception):
    """Base class, so that callers can catch the lot."""


class TemplateError(RouterError, ValueError):
    """A template could not be parsed."""


class BadPath(RouterError, ValueError):
    """The request path is malformed (answer: 400)."""


class NotFound(RouterError, LookupError):
    """No route matches the path (answer: 404)."""


class MethodNotAllowed(RouterError):
    """A route matches the path, but not the method (answer: 405)."""

    def __init__(self, allowed):
        self.allowed = tuple(sorted(allowed))
        super().__init__("allowed: " + ", ".join(self.allowed))


class Redirect(RouterError):
    """The path differs from a known one by its trailing slash (answer: 308)."""

    def __init__(self, location):
        self.location = location
        super().__init__(location)


class BuildError(RouterError, LookupError):
    """No URL can be built from the given values."""
