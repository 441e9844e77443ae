"""Everything that can happen to the scheduler. Frozen, flat, JSON-able: the journal is a list of these."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CallArrived:
    """A model call of a program reached the gateway. ``prompt_tokens`` is an estimate."""

    call: str
    program: str
    prompt_tokens: int
    group: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class CallCancelled:
    """The client went away, before or after admission."""

    call: str


@dataclass(frozen=True, slots=True)
class FirstToken:
    """The first byte of the answer came back: prefill is over."""

    call: str


@dataclass(frozen=True, slots=True)
class CallProgress:
    """``output_tokens`` so far, for calls whose answer is streamed."""

    call: str
    output_tokens: int


@dataclass(frozen=True, slots=True)
class CallFinished:
    """The answer is complete; token counts as the engine's ``usage`` states them."""

    call: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class CallFailed:
    """The call ended without an answer; the engine holds nothing of it any more."""

    call: str


@dataclass(frozen=True, slots=True)
class CallBounced:
    """The worker failed before the first byte: the call is to be admitted again."""

    call: str


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool of the program began. ``tool`` is a short name, e.g. of its command: durations are learnt by it."""

    program: str
    tool: str = ""


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool of the program ended: its next call is near."""

    program: str
    seconds: float


@dataclass(frozen=True, slots=True)
class EnvironmentWanted:
    """The program asked for a tool environment that it does not need yet."""

    program: str


@dataclass(frozen=True, slots=True)
class EnvironmentReady:
    """A tool environment of the program is ready; preparing it took ``seconds``."""

    program: str
    seconds: float


@dataclass(frozen=True, slots=True)
class EnvironmentFailed:
    """A tool environment of the program could not be prepared."""

    program: str


@dataclass(frozen=True, slots=True)
class ProgramReleased:
    program: str


@dataclass(frozen=True, slots=True)
class WorkerUp:
    """A worker is ready, or its figures changed. Capacity in tokens, prefill rate in tokens/s (0: unknown)."""

    worker: str
    capacity_tokens: int
    prefill_tokens_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkerDraining:
    """The worker takes no further programs; those it has go on until they rest."""

    worker: str


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The worker is gone, and its KV cache with it."""

    worker: str


@dataclass(frozen=True, slots=True)
class WeightsChanged:
    """The model has other weights on every worker: what was cached is of no use. ``version`` of them; it never falls.

    The same version again: only the caches were dropped.
    """

    version: int


@dataclass(frozen=True, slots=True)
class Timer:
    """The time that ``Scheduler.next_deadline`` asked for has come."""


Event = (
    CallArrived
    | CallCancelled
    | FirstToken
    | CallProgress
    | CallFinished
    | CallFailed
    | CallBounced
    | ToolStarted
    | ToolFinished
    | EnvironmentWanted
    | EnvironmentReady
    | EnvironmentFailed
    | ProgramReleased
    | WorkerUp
    | WorkerDraining
    | WorkerLost
    | WeightsChanged
    | Timer
)

BY_NAME: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__args__}


def to_record(event: Event) -> dict[str, Any]:
    """The event as a JSON-able mapping with its kind under ``event``."""
    return {"event": type(event).__name__, **asdict(event)}


def from_record(record: dict[str, Any]) -> Event:
    """Inverse of :func:`to_record`; ``KeyError`` or ``TypeError`` for a record that is none."""
    fields = dict(record)
    return BY_NAME[fields.pop("event")](**fields)
