"""Functions whose results are cached."""

import functools

_MISSING = object()


def memoize(cache, ttl=None, tags=(), name=None):
    """Decorator: results are kept in ``cache`` under the function's name and its arguments.

    ``forget`` of the decorated function drops all of its results.
    """
    def decorate(function):
        prefix = name or "%s.%s" % (function.__module__, function.__qualname__)
        own = "memoize:" + prefix

        @functools.wraps(function)
        def cached(*arguments, **named):
            key = (prefix, arguments, tuple(sorted(named.items())))
            value = cache.get(key, _MISSING)
            if value is _MISSING:
                value = function(*arguments, **named)
                cache.put(key, value, ttl, [own, *tags])
            return value

        cached.forget = lambda: cache.drop_tag(own)
        return cached
    return decorate
