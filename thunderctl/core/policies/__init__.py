"""Policies by name. A new one is one file with a class, and one row here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields

from thunderctl.core.policies.base import Policy
from thunderctl.core.policies.baseline import Baseline
from thunderctl.core.policies.continuum import Continuum
from thunderctl.core.policies.paper import Paper
from thunderctl.core.policies.shadow_price import ShadowPrice
from thunderctl.core.policies.thunder import Thunder

POLICIES: dict[str, type[Policy]] = {kind.name: kind for kind in (Baseline, Paper, Thunder, Continuum, ShadowPrice)}
"""Those that a node can run. ``oracle`` is not among them: it wants to be told the future."""


def make_policy(
    name: str, options: Mapping[str, object] | None = None, kinds: Mapping[str, type[Policy]] = POLICIES
) -> Policy:
    """The policy ``name`` with ``options`` set; ``ValueError`` says what is unknown and what there is in ``kinds``."""
    if name not in kinds:
        close = difflib.get_close_matches(name, kinds, 1)
        raise ValueError(
            f"unknown policy {name!r}"
            + (f", did you mean {close[0]!r}?" if close else "")
            + f" (there are: {', '.join(kinds)})"
        )
    kind = kinds[name]
    known = {f.name: f for f in fields(kind) if f.init}  # type: ignore[arg-type]
    for key, value in (options or {}).items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            raise ValueError(
                f"policy {name!r} has no option {key!r}"
                + (f", did you mean {close[0]!r}?" if close else "")
                + f" (there are: {', '.join(known) or 'none'})"
            )
        default = known[key].default
        wanted = (int, float) if isinstance(default, int | float) and not isinstance(default, bool) else type(default)
        if not isinstance(value, wanted) or isinstance(value, bool) != isinstance(default, bool):
            raise ValueError(f"option {key!r} of policy {name!r} must be like {default!r}, not {value!r}")
    return kind(**(options or {}))
