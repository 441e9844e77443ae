"""Roll-outs for reinforcement learning: groups of samples with every token as the engine saw it."""

from typing import TYPE_CHECKING, Any

from thunderctl.rollouts.schema import Group, Sample, Segment

if TYPE_CHECKING:
    from thunderctl.rollouts.api import Rollouts, rollouts

__all__ = ["Group", "Rollouts", "Sample", "Segment", "rollouts"]


def __getattr__(name: str) -> Any:
    """The API brings the launcher and the command line's parts with it: only who asks for it needs them."""
    if name in ("Rollouts", "rollouts"):
        from thunderctl.rollouts import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
