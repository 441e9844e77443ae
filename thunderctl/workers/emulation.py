"""What an emulated worker is told: its time model and its sizes, from a profile and the catalogue. Starts nothing."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from thunderctl.errors import UsageError
from thunderctl.profile import Profile
from thunderctl.workers import catalogue
from thunderctl.workers.inside import thunderctl_timing
from thunderctl.workers.inside.thunderctl_timing import StepCost

BLOCK_SIZE = 16
"""Tokens in a KV block of a GPU, as vLLM chooses it."""
_LIMITS = {"cpu": (128, 2048), "cuda": (256, 8192), "emulated": (256, 8192), "external": (256, 8192)}
"""vLLM's own choice of --max-num-seqs and --max-num-batched-tokens for an API server (vllm/engine/arg_utils.py)."""


@dataclass(frozen=True, slots=True)
class Emulation:
    """One emulated worker. Sizes in tokens, except ``max_num_seqs``."""

    cost: StepCost
    kv_tokens: int
    block_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    time_scale: float
    acceptance: float

    def to_json(self) -> str:
        """What ``inside/thunderctl_emulated.py`` reads."""
        return json.dumps(
            {
                "cost": json.loads(thunderctl_timing.to_json(self.cost)),
                "kv_tokens": self.kv_tokens,
                "time_scale": self.time_scale,
                "acceptance": self.acceptance,
            }
        )


@dataclass(frozen=True, slots=True)
class Lag:
    """An emulated worker's pace since it started; seconds on the emulated clock."""

    steps: int
    busy_s: float
    """What its steps should have taken."""
    lag_s: float
    """By how much they took longer, because this machine could not keep up."""


def read_lag(path: Path) -> Lag | None:
    """The worker's own count (three doubles, see ``inside/thunderctl_emulated.py``); None if there is none yet."""
    try:
        steps, busy, lag = struct.unpack("<3d", path.read_bytes())
    except (OSError, struct.error):
        return None
    return Lag(int(steps), busy, lag)


def emulation_of(profile: Profile) -> Emulation:
    """The emulated worker that ``profile`` describes.

    Raises:
        UsageError: a GPU or model is not in the catalogue, does not fit, or the file of costs cannot be read.
    """
    said, workers = profile.emulation, profile.workers
    seqs, batched = batch_limits(profile)
    block_size = workers.block_size or BLOCK_SIZE
    cost: StepCost
    if said.costs is not None:
        cost, capacity = read_costs(said.costs), 0
    else:
        gpu, model = said.gpu or "", said.model or ""
        cost = catalogue.step_cost(gpu, model, workers.tensor_parallel)
        capacity = catalogue.kv_capacity_tokens(
            gpu, model, workers.tensor_parallel, workers.gpu_memory_utilization or 0.9, batched
        )
    kv_tokens = workers.kv_tokens or capacity
    return Emulation(
        cost=cost,
        kv_tokens=kv_tokens // block_size * block_size,
        block_size=block_size,
        max_num_seqs=seqs,
        max_num_batched_tokens=batched,
        time_scale=said.time_scale,
        acceptance=said.acceptance,
    )


def batch_limits(profile: Profile) -> tuple[int, int]:
    """Requests, and tokens, that a step of this profile's workers holds at most."""
    seqs, batched = _LIMITS[profile.engine.kind]
    return profile.workers.max_num_seqs or seqs, profile.workers.max_num_batched_tokens or batched


def read_costs(path: Path) -> StepCost:
    """The time model in a file that ``thunderctl calibrate`` wrote; ``UsageError`` if it is none."""
    try:
        return thunderctl_timing.from_json(json.dumps(json.loads(path.expanduser().read_text())["cost"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no file of costs: {error}", hint="thunderctl calibrate makes one") from None
