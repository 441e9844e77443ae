"""What every agent works with, whatever it does: the daemon, the run's clock, and somebody to tell of each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from thunderctl.agents.client import DaemonClient
from thunderctl.agents.rollout import Ending


@dataclass(frozen=True, slots=True)
class Desk:
    """An agent's place in a run."""

    client: DaemonClient
    run: str
    """The run's id."""
    clock: Callable[[], float]
    """Seconds since the run began, as they are stored: emulated ones where time is."""
    noted: Callable[[Ending, dict[str, Any]], None]
    """To be told of each step as it ends."""
    time_scale: float = 1.0
    """Seconds on the wall that one of them takes."""
    over: Callable[[], bool] = lambda: False
    """Whether the run is ending: then no agent begins another step."""
    tokens: bool = False
    """Whether agents talk to the engine in token ids and keep them (``tokens.py``)."""
    sampling: Mapping[str, float] = field(default_factory=dict)
    """How live answers are drawn: ``temperature``, ``top_p`` … as the engine's API calls them. Replay draws nothing."""
