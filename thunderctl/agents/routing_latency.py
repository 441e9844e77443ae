"""Time that tools of routing agents take on purpose, on top of their own: searches over a network and large models that
write programs are slow now and then, and what a scheduler does about that shows only if they are.

Each call's time follows from the seed, the agent and the call's number alone, so every arm of a comparison waits the
same. Times are in seconds of the node.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from thunderctl.workload.routing import LatencyName


@dataclass(frozen=True, slots=True)
class Latency:
    """Log-normal, or with probability ``tail`` Pareto from ``tail_from_s`` on; never above ``cap_s``."""

    median_s: float
    sigma: float
    tail: float = 0.0
    tail_from_s: float = 0.0
    alpha: float = 1.0
    cap_s: float = 300.0

    def draw(self, source: random.Random) -> float:
        if source.random() < self.tail:
            return min(self.cap_s, self.tail_from_s * source.paretovariate(self.alpha))
        return min(self.cap_s, self.median_s * source.lognormvariate(0.0, self.sigma))


LATENCIES: dict[LatencyName, dict[str, Latency]] = {
    "none": {},
    "fast": {"search": Latency(0.2, 0.6), "enhance_reasoning": Latency(0.5, 0.6)},
    # Search: 6 s in the mean, one call in a hundred above 70 s; reasoning twice as long. Such tools of routing agents
    # are told to have tails to hundreds of seconds.
    "long-tail": {
        "search": Latency(1.5, 0.8, tail=0.15, tail_from_s=8.0, alpha=1.2),
        "enhance_reasoning": Latency(3.0, 0.8, tail=0.15, tail_from_s=16.0, alpha=1.2),
    },
}


def tool_latency_s(name: LatencyName, tool: str, seed: int, agent: str, call: int) -> float:
    """Seconds that the ``call``-th step of an agent waits for ``tool``."""
    latency = LATENCIES[name].get(tool)
    if latency is None:
        return 0.0
    return latency.draw(random.Random(f"{seed}/{agent}/{call}/{tool}"))  # noqa: S311 - waiting times, no secret
