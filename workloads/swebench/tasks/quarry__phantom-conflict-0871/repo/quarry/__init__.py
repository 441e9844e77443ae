"""quarry: pick versions that fit together, and say in which order to install them."""

from .catalog import Catalog, Release
from .constraint import Constraint, ConstraintError
from .order import CycleError, install_order
from .report import render_plan
from .resolver import Plan, Unresolvable, resolve
from .version import Version, VersionError

__all__ = [
    "Catalog", "Constraint", "ConstraintError", "CycleError", "Plan", "Release",
    "Unresolvable", "Version", "VersionError", "install_order", "render_plan", "resolve",
]
