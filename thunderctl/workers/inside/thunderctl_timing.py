"""How long one engine step takes. The one time model of the emulated worker and of the simulator.

It runs in an engine's interpreter as well as in thunderctl's own, so it imports the standard library only. Figures
come from ``workers/catalogue.py`` or from ``thunderctl calibrate``; nothing here knows of any GPU or model.

A step is described by four sums over its requests. A request with c tokens computed before the step and n new ones
in it counts n ``tokens``, c + n tokens of ``context`` (its KV is read once), n·c + n·(n+1)/2 attention ``pairs`` (each
new token attends to all before it and to itself), and 1 in ``sampled`` if the step gives it an output token.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Union


def pairs_of(computed: int, new: int) -> int:
    """Attention pairs of ``new`` tokens that follow ``computed`` ones."""
    return new * computed + new * (new + 1) // 2


@dataclass(frozen=True)
class Roofline:
    """A GPU worker: each part of a step takes as long as the slower of memory and arithmetic lets it.

    Rates are those of the whole worker (all its GPUs together), already multiplied by the efficiency that is reached
    in practice. Matrix products and attention follow one another, so their times add up.
    """

    dense_bytes: float
    """Weights that every step reads."""
    expert_bytes: float
    """Weights of all routed experts together; 0 for a dense model."""
    experts: int
    """Routed experts in a layer; 0 for a dense model."""
    experts_per_token: int
    flops_per_token: float
    """2 × the parameters that are active for a token."""
    flops_per_pair: float
    """Of attention, over all layers: 4 × heads × head size × layers."""
    kv_bytes_per_token: float
    memory_bytes_per_s: float
    flops_per_s: float
    allreduces: int = 0
    """Tensor-parallel reductions in a step; 0 on a single GPU."""
    allreduce_latency_s: float = 0.0
    """Of each reduction, however small."""
    link_bytes_per_token: float = 0.0
    """Bytes that each GPU sends for each token, over all reductions."""
    link_bytes_per_s: float = 1.0
    fixed_s: float = 0.0
    """Scheduling, launching and sampling."""

    def step_s(self, *, tokens: int, context: int, pairs: int, sampled: int = 0) -> float:
        """Seconds of a step; see the module for the four sums. A GPU samples all requests at once (``fixed_s``)."""
        touched = 1.0 - (1.0 - self.experts_per_token / self.experts) ** tokens if self.experts else 0.0
        weights = (self.dense_bytes + self.expert_bytes * touched) / self.memory_bytes_per_s
        products = max(weights, tokens * self.flops_per_token / self.flops_per_s)
        attention = max(
            context * self.kv_bytes_per_token / self.memory_bytes_per_s, pairs * self.flops_per_pair / self.flops_per_s
        )
        link = self.allreduces * self.allreduce_latency_s + tokens * self.link_bytes_per_token / self.link_bytes_per_s
        return self.fixed_s + products + attention + link


@dataclass(frozen=True)
class Measured:
    """A worker whose step times were fitted to measurements (``thunderctl calibrate``): a plain sum, in seconds."""

    fixed_s: float
    token_s: float
    pair_s: float
    context_s: float
    sample_s: float = 0.0
    """Of each request that is sampled: its logits, its sampling, its place in the batch."""

    def step_s(self, *, tokens: int, context: int, pairs: int, sampled: int = 0) -> float:
        """Seconds of a step; see the module for the four sums."""
        work = tokens * self.token_s + pairs * self.pair_s + context * self.context_s
        return self.fixed_s + work + sampled * self.sample_s


StepCost = Union[Roofline, Measured]  # noqa: UP007 - evaluated at run time, in engines with older interpreters too

_KINDS = {"roofline": Roofline, "measured": Measured}


def to_json(cost: StepCost) -> str:
    """One line that :func:`from_json` reads; it travels to an engine's processes in an environment variable."""
    return json.dumps({"kind": type(cost).__name__.lower(), **asdict(cost)})


def from_json(text: str) -> StepCost:
    """Inverse of :func:`to_json`; ``ValueError`` or ``TypeError`` for a text that is none."""
    fields = json.loads(text)
    kind = _KINDS.get(fields.pop("kind", None))
    if kind is None:
        raise ValueError(f"a step cost is one of {', '.join(_KINDS)}")
    return kind(**fields)


def cold_prefill_rate(cost: StepCost, tokens: int = 8192) -> float:
    """Tokens per second of a cold prompt alone on the worker, as ``workers/facts.py`` measures it."""
    return tokens / cost.step_s(tokens=tokens, context=tokens, pairs=pairs_of(0, tokens), sampled=1)
