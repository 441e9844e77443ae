"""The shape of a run's load: when agents begin, when the run ends, which part of it is measured. Plain data.

*Closed loop* (the default): ``agents`` places, each taking the next task when its agent is done. *Open loop*
(``arrivals_per_min``): agents arrive by a seeded Poisson process whether or not others are done; ``agents`` is then the
cap on how many work at once, and who arrives beyond it waits for a place. All seconds are those of the node.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from itertools import count
from typing import Any, TypeVar

from thunderctl.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Warmup:
    """What is left out at the beginning of the measured window: seconds, or a share of the run."""

    seconds: float = 0.0
    share: float = 0.0

    def of(self, length_s: float) -> float:
        """Seconds that are left out of a run of ``length_s``."""
        return min(length_s, max(self.seconds, self.share * length_s))


@dataclass(frozen=True, slots=True)
class Shape:
    """How the load comes. The defaults: everybody begins at once, and the run ends when the work does."""

    ramp_s: float = 0.0
    """Closed loop: places open one after the other over so many seconds."""
    arrivals_per_min: float | None = None
    """Open loop: mean rate of arrivals."""
    max_duration_s: float | None = None
    """The run is cut off after so many seconds, whatever is left to do."""
    warmup: Warmup = Warmup()
    seed: int = 0

    def opens_at(self, place: int, agents: int) -> float:
        """Seconds after the beginning at which a place takes its first task."""
        return self.ramp_s * place / agents

    def arrivals(self) -> Iterator[float]:
        """Open loop: seconds after the beginning at which each agent arrives, without end. Same seed, same times."""
        assert self.arrivals_per_min is not None, "closed loop"  # noqa: S101
        dice = random.Random(f"{self.seed}/arrivals")  # noqa: S311 - a workload, no secret
        at = 0.0
        for _ in count():
            at += dice.expovariate(self.arrivals_per_min / 60)
            yield at

    def about(self) -> dict[str, Any]:
        """Its part of the manifest."""
        return {"loop": "closed" if self.arrivals_per_min is None else "open", **asdict(self)}


def parse_arrival(text: str) -> float:
    """``poisson:RATE`` → arrivals a minute."""
    name, _, rate = text.partition(":")
    try:
        per_min = float(rate)
    except ValueError:
        per_min = 0.0
    if name != "poisson" or not 0 < per_min < 1e6:
        raise UsageError(f"--arrival {text!r} is not understood", hint="poisson:RATE, agents a minute, e.g. poisson:12")
    return per_min


def parse_warmup(text: str) -> Warmup:
    """``30`` or ``30s``: seconds; ``10%``: that share of the run."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(%|s?)", text.strip())
    if found is None or (found[2] == "%" and float(found[1]) >= 100):
        raise UsageError(f"--warmup {text!r} is not understood", hint="seconds, e.g. 30, or a share, e.g. 10%")
    value = float(found[1])
    return Warmup(share=value / 100) if found[2] == "%" else Warmup(seconds=value)


def parse_slice(text: str) -> slice:
    """``A:B`` as Python has it, from 0; either end may be missing, negative ones count from the end."""
    found = re.fullmatch(r"(-?\d+)?:(-?\d+)?", text.strip())
    if found is None:
        raise UsageError(f"--slice {text!r} is not understood", hint="A:B, from 0, B left out: e.g. 0:10, :10 or 10:")
    return slice(*(int(part) if part else None for part in found.groups()))


def choose(
    items: Sequence[tuple[str, T]], *, pattern: str | None, part: str | None, shuffle: bool, seed: int, what: str
) -> list[T]:
    """Named items: those whose name matches ``pattern``, shuffled, then cut. ``UsageError`` if none is left."""
    kept = [(name, item) for name, item in items if pattern is None or fnmatchcase(name, pattern)]
    if not kept:
        known = ", ".join(name for name, _ in items[:5])
        raise UsageError(f"--filter {pattern!r} matches no {what}", hint=f"there are: {known}, …")
    if shuffle:
        random.Random(f"{seed}/tasks").shuffle(kept)  # noqa: S311 - a workload, no secret
    chosen = kept[parse_slice(part)] if part is not None else kept
    if not chosen:
        raise UsageError(f"--slice {part!r} leaves no {what} of {len(kept)}")
    return [item for _, item in chosen]
