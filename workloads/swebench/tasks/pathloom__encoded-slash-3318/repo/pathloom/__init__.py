"""pathloom: match URLs against templates and build URLs from them."""

from .errors import (BadPath, BuildError, MethodNotAllowed, NotFound, Redirect,
                     RouterError, TemplateError)
from .router import Match, Router

__all__ = ["BadPath", "BuildError", "Match", "MethodNotAllowed", "NotFound",
           "Redirect", "Router", "RouterError", "TemplateError"]
