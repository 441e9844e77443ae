"""Everything the scheduler may ask its body to do, or tells it has decided. Order within a list matters."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Admit:
    """Send this call to this worker now. ``waited_s`` is how long it was held."""

    call: str
    program: str
    worker: str
    waited_s: float


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer this call with an error; it is forgotten. ``retry_after_s`` goes into the header of that name."""

    call: str
    program: str
    status: int
    retry_after_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Paused:
    """The program's KV on this worker is given up for others; its next call will be held."""

    program: str
    worker: str
    tokens: int
    reason: str


@dataclass(frozen=True, slots=True)
class Restored:
    """The program may use this worker. ``forced``: although capacity said no. ``moved``: not where its KV was."""

    program: str
    worker: str
    tokens: int
    waited_s: float
    forced: bool
    moved: bool
    reason: str


@dataclass(frozen=True, slots=True)
class PrepareEnvironment:
    """Whatever tool environments the program wants: prepare them now. ``early``: it still waits for a place."""

    program: str
    early: bool


@dataclass(frozen=True, slots=True)
class ReclaimEnvironment:
    """The program ended: whatever tool environments it leased can go."""

    program: str


Effect = Admit | Reject | Paused | Restored | PrepareEnvironment | ReclaimEnvironment


def to_record(effect: Effect) -> dict[str, Any]:
    """The effect as a JSON-able mapping with its kind under ``effect``."""
    return {"effect": type(effect).__name__, **asdict(effect)}
