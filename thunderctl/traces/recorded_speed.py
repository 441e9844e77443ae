"""How fast the model behind a recording answered, told from the recording itself, so that its share can be taken out.

Many recordings only know the seconds from one call's start to the next one's: model and tool together. Most tools of
an agent end almost at once, so the quickest steps of each length show the model alone: ``latency + tokens × token_s``.
That line is the 10% quantile of the seconds, given the tokens generated (quantile regression, Koenker and Bassett
1978). A tenth of the steps may lie below it, which takes care of clocks that count whole seconds and of stray records;
how slow the slowest tools are does not move it. What the quickest tenth of the tools took counts as latency.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

QUANTILE = 0.1
FEWEST = 30
"""Steps below which a line through them would be a guess."""
LOOKED_AT = 10_000
"""Steps that a fit looks at, spread evenly over all lengths, however many there are."""
_ROUNDS = 45
"""Of the search for the slope; each leaves 0.62 of the range, so that 1e-9 of it is left."""
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True)
class RecordedSpeed:
    """Seconds that the recorded model took: ``latency_s`` for a call, ``token_s`` for each token it generated."""

    latency_s: float
    token_s: float

    def tool_s(self, seconds: float, tokens: int) -> float:
        """What is left of a step of ``seconds`` for its tool; never below 0."""
        return max(0.0, seconds - self.latency_s - tokens * self.token_s)


def fit_speed(steps: Sequence[tuple[int, float]]) -> RecordedSpeed | None:
    """The speed that ``steps`` show, each (tokens generated, seconds to the next call); ``None`` for too few."""
    if len(steps) < FEWEST:
        return None
    points = sorted(steps)
    if len(points) > LOOKED_AT:
        points = [points[i * len(points) // LOOKED_AT] for i in range(LOOKED_AT)]
    # The loss is convex in the slope once the best latency for it is put in, so narrowing an interval finds its foot.
    low, high = 0.0, max((seconds / tokens for tokens, seconds in points if tokens), default=0.0)
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    loss_a, loss_b = _loss(points, a), _loss(points, b)
    for _ in range(_ROUNDS):
        if loss_a <= loss_b:
            high, b, loss_b = b, a, loss_a
            a = high - _GOLDEN * (high - low)
            loss_a = _loss(points, a)
        else:
            low, a, loss_a = a, b, loss_b
            b = low + _GOLDEN * (high - low)
            loss_b = _loss(points, b)
    slope = (low + high) / 2
    return RecordedSpeed(max(0.0, _latency(points, slope)), slope)


def _latency(points: list[tuple[int, float]], slope: float) -> float:
    """The quantile of what ``slope`` leaves of the seconds."""
    left = sorted(seconds - slope * tokens for tokens, seconds in points)
    return left[int(QUANTILE * len(left))]


def _loss(points: list[tuple[int, float]], slope: float) -> float:
    """Quantile loss of the best line of this slope."""
    latency = _latency(points, slope)
    total = 0.0
    for tokens, seconds in points:
        above = seconds - slope * tokens - latency
        total += QUANTILE * above if above > 0 else (QUANTILE - 1) * above
    return total
