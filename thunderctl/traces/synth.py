"""Synthetic traces: programs drawn from fitted distributions with a seed. No text and no clock; same seed, same trace.

A distribution is a table of quantiles, with straight lines (on a logarithmic scale) between them: what was measured
goes in as it is, heavy tails included, and no formula has to be believed.
"""

from __future__ import annotations

import bisect
import math
import random
from dataclasses import dataclass
from itertools import pairwise

from thunderctl.traces.load import make_trace
from thunderctl.traces.trace import Trace, TraceProgram, TraceStep


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A distribution of numbers ≥ 0 by its quantiles: (share below, value), shares from 0 to 1, both rising."""

    table: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        shares = [share for share, _ in self.table]
        assert shares[0] == 0 and shares[-1] == 1, "a table goes from 0 to 1"  # noqa: S101
        assert all(a[0] < b[0] and 0 <= a[1] <= b[1] for a, b in pairwise(self.table))  # noqa: S101

    def draw(self, rng: random.Random) -> float:
        """One value."""
        share = rng.random()
        upper = bisect.bisect_left(self.table, share, 1, len(self.table) - 1, key=lambda row: row[0])
        (a, low), (b, high) = self.table[upper - 1], self.table[upper]
        # Counts reach down to 0, where there is no logarithm.
        return math.expm1(math.log1p(low) + (share - a) / (b - a) * (math.log1p(high) - math.log1p(low)))


@dataclass(frozen=True, slots=True)
class Kind:
    """How programs of one kind are drawn. Tokens, except ``tool_s``."""

    steps: Quantiles
    first_prompt: Quantiles
    output: Quantiles
    reasoning: Quantiles
    observation: Quantiles
    tool_s: Quantiles
    verbosity: float = 0.0
    """Standard deviation of the logarithm of a factor that all outputs and observations of a program share."""
    shared_prefix: int = 0
    context_limit: int | None = None


NOTHING = Quantiles(((0, 0), (1, 0)))

KINDS: dict[str, Kind] = {
    # Fitted to 380 recorded runs of mini-swe-agent on SWE-bench Verified with one frontier model: counts as billed,
    # tool times with the model's share taken out (``recorded_speed.py``). One output of 65,536 tokens is left out.
    # Programs are made of independent steps, so contexts spread a little differently: at 2,000 programs the final
    # context has p90 43,000 (recorded 38,000) and p99 75,000 (recorded 87,000 in a larger recording); means agree.
    "coding": Kind(
        steps=Quantiles(((0, 13), (0.05, 20), (0.1, 22), (0.25, 27), (0.5, 36), (0.75, 47), (0.9, 66), (0.95, 84),
                         (0.99, 113), (1, 145))),
        first_prompt=Quantiles(((0, 1321), (0.1, 1390), (0.25, 1482), (0.5, 1654), (0.75, 1968), (0.9, 2345),
                                (0.95, 2864), (0.99, 4655), (1, 10427))),
        output=Quantiles(((0, 8), (0.02, 21), (0.1, 27), (0.2, 38), (0.25, 43), (0.4, 59), (0.5, 81), (0.6, 124),
                          (0.7, 208), (0.75, 279), (0.8, 372), (0.85, 498), (0.9, 682), (0.95, 1045), (0.98, 1700),
                          (0.99, 2450), (0.998, 4690), (1, 9000))),
        reasoning=Quantiles(((0, 0), (0.968, 0), (0.97, 67), (0.984, 129), (0.997, 229), (1, 1191))),
        observation=Quantiles(((0, 0), (0.03, 0), (0.05, 16), (0.2, 19), (0.3, 30), (0.4, 49), (0.5, 87), (0.6, 137),
                               (0.7, 222), (0.75, 283), (0.8, 360), (0.85, 495), (0.9, 770), (0.95, 1380),
                               (0.98, 2800), (0.99, 3350), (0.999, 4300), (1, 14000))),
        tool_s=Quantiles(((0, 0), (0.1, 0), (0.2, 0.49), (0.3, 0.86), (0.5, 1.31), (0.7, 2.43), (0.8, 3.54),
                          (0.9, 6.39), (0.95, 11.1), (0.98, 19.9), (0.99, 31.8), (0.998, 59.8), (1, 108))),
        verbosity=0.1,
    ),
    # Not fitted to a recording: agents that route questions to search and to other models, as in ToolOrchestra's
    # loop: at most 50 rounds, a common system prompt, contexts cut on the left at 27,000 tokens, tools (a search, a
    # larger model that reasons) with tails to hundreds of seconds.
    "routing": Kind(
        steps=Quantiles(((0, 2), (0.1, 4), (0.25, 7), (0.5, 13), (0.75, 22), (0.9, 34), (0.97, 50), (1, 50))),
        first_prompt=Quantiles(((0, 900), (0.25, 1050), (0.5, 1200), (0.75, 1500), (0.9, 2100), (1, 4000))),
        output=Quantiles(((0, 20), (0.25, 45), (0.5, 80), (0.75, 150), (0.9, 320), (0.99, 900), (1, 2000))),
        reasoning=Quantiles(((0, 30), (0.25, 110), (0.5, 220), (0.75, 420), (0.9, 800), (0.99, 2200), (1, 4000))),
        observation=Quantiles(((0, 40), (0.1, 200), (0.25, 500), (0.5, 1100), (0.75, 2100), (0.9, 3400), (0.99, 7000),
                               (1, 12000))),
        tool_s=Quantiles(((0, 0.3), (0.25, 1.2), (0.5, 3), (0.75, 12), (0.9, 45), (0.97, 120), (0.99, 240), (1, 600))),
        verbosity=0.2,
        shared_prefix=800,
        context_limit=27_000,
    ),
    # Not fitted to a recording: agents that write whole analysis programs and run them, in the shape of
    # ScienceAgentBench: few long steps, data previews in the first prompt, tools of tens of seconds.
    "science": Kind(
        steps=Quantiles(((0, 3), (0.1, 4), (0.25, 6), (0.5, 9), (0.75, 13), (0.9, 19), (0.99, 28), (1, 32))),
        first_prompt=Quantiles(((0, 1800), (0.25, 2600), (0.5, 3400), (0.75, 4600), (0.9, 6500), (0.99, 11000),
                                (1, 16000))),
        output=Quantiles(((0, 80), (0.1, 300), (0.25, 600), (0.5, 1100), (0.75, 1800), (0.9, 2600), (0.99, 4500),
                          (1, 8000))),
        reasoning=NOTHING,
        observation=Quantiles(((0, 10), (0.25, 60), (0.5, 220), (0.75, 700), (0.9, 1600), (0.99, 4500), (1, 8000))),
        tool_s=Quantiles(((0, 0.5), (0.1, 4), (0.25, 10), (0.5, 24), (0.75, 48), (0.9, 90), (0.99, 240), (1, 480))),
        verbosity=0.2,
        shared_prefix=1_100,
    ),
}  # fmt: skip


def synthesise(kind: str, programs: int, seed: int) -> Trace:
    """A trace of ``programs`` programs of a kind of :data:`KINDS`."""
    drawn = KINDS[kind]
    rng = random.Random(f"{kind}/{seed}")  # noqa: S311 - a workload, no secret
    return make_trace(kind, (_program(drawn, f"{kind}-{number:05d}", kind, rng) for number in range(programs)))


def _program(kind: Kind, name: str, label: str, rng: random.Random) -> TraceProgram:
    first_prompt = max(kind.shared_prefix, 1, round(kind.first_prompt.draw(rng)))
    # The factor's mean is 1, so that it spreads contexts without making them longer.
    factor = math.exp(kind.verbosity * rng.gauss(0, 1) - kind.verbosity**2 / 2)
    count = max(1, round(kind.steps.draw(rng)))
    steps = []
    for number in range(count):
        output = max(1, round(factor * kind.output.draw(rng)))
        reasoning = round(kind.reasoning.draw(rng))
        observation = round(factor * kind.observation.draw(rng))
        tool_s = round(kind.tool_s.draw(rng), 1)
        if number == count - 1:
            observation, tool_s = 0, 0.0
        steps.append(TraceStep(output, reasoning, observation, tool_s))
    return TraceProgram(name, first_prompt, tuple(steps), label, None, kind.shared_prefix, kind.context_limit)
