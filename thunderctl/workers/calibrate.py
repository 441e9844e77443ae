"""Measures how long a real worker's steps take, and fits the simulator's time model to it.

Prefill: cold prompts of several lengths, one token of answer each. Decode: batches whose prompts are cached already,
at several batch sizes and contexts; the difference between a long and a short answer is nothing but decode steps. The
fit is ordinary least squares on relative errors, with no negative coefficient.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from thunderctl.errors import EngineError
from thunderctl.workers.facts import WorkerFacts
from thunderctl.workers.inside.thunderctl_timing import Measured, pairs_of

PROMPTS = (64, 256, 1024, 4096, 8192, 12288, 16384, 24576)
"""Cold prompts, tokens; those that do not fit are left out."""
CONTEXTS = (256, 4096, 12288)
BATCHES = (1, 2, 4, 8, 16)
SHORT_ANSWER, LONG_ANSWER = 8, 40
REPEATS = 3
_IDS = range(300, 4000)
_TIMEOUT = aiohttp.ClientTimeout(total=600)


@dataclass(frozen=True, slots=True)
class Observation:
    """Something that was timed: ``calls`` model calls that took ``steps`` engine steps, with the sums over them."""

    what: str
    calls: int
    steps: int
    tokens: int
    pairs: int
    context: int
    seconds: float

    def features(self) -> tuple[float, ...]:
        """In the order of the coefficients: call, step, token, pair, context."""
        return (self.calls, self.steps, self.tokens, self.pairs, self.context)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted time model."""

    cost: Measured
    call_overhead_s: float
    """Seconds of a call that are not engine steps: HTTP and tokenising."""
    error: float
    """Mean relative error of the fit over its own observations."""


async def observe(
    url: str, facts: WorkerFacts, *, batched_tokens: int, progress: Callable[[str], None]
) -> list[Observation]:
    """Time the server at ``url`` (without ``/v1``); takes a minute or a few. It must have nothing else to do."""
    found: list[Observation] = []
    longest = min(facts.max_model_len - LONG_ANSWER - 1, facts.capacity_tokens // 2)
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        for size in (n for n in PROMPTS if n <= longest):
            progress(f"prefill of {size:,} tokens")
            await _complete(session, url, facts.model, _prompt(size), 1)
            times = [await _complete(session, url, facts.model, _prompt(size), 1) for _ in range(REPEATS)]
            found.append(_prefill_observation(size, batched_tokens, statistics.median(times)))
        for context, batch in itertools.product(CONTEXTS, BATCHES):
            if context > longest or context * batch > facts.capacity_tokens * 0.8:
                continue
            progress(f"decode of {batch} at {context:,} tokens of context")
            found.append(await _decode_observation(session, url, facts.model, context, batch))
    return found


def _prefill_observation(size: int, batched_tokens: int, seconds: float) -> Observation:
    ends = [*range(batched_tokens, size, batched_tokens), size]
    return Observation(f"prefill {size}", 1, len(ends), size, pairs_of(0, size), sum(ends), seconds)


async def _decode_observation(
    session: aiohttp.ClientSession, url: str, model: str, context: int, batch: int
) -> Observation:
    prompts = [_prompt(context) for _ in range(batch)]
    for prompt in prompts:
        await _complete(session, url, model, prompt, 1)

    async def timed(tokens: int) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(_complete(session, url, model, prompt, tokens) for prompt in prompts))
        return time.perf_counter() - began

    differences = [await timed(LONG_ANSWER) - await timed(SHORT_ANSWER) for _ in range(REPEATS)]
    steps = LONG_ANSWER - SHORT_ANSWER
    read = batch * sum(context + position for position in range(SHORT_ANSWER, LONG_ANSWER))
    return Observation(
        f"decode {batch} × {context}", 0, steps, batch * steps, read, read, statistics.median(differences)
    )


def _prompt(size: int) -> list[int]:
    return random.SystemRandom().choices(_IDS, k=size)


async def _complete(session: aiohttp.ClientSession, url: str, model: str, prompt: list[int], tokens: int) -> float:
    """Seconds of one completion of exactly ``tokens`` tokens."""
    body = {"model": model, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 0}
    began = time.perf_counter()
    try:
        async with session.post(f"{url}/v1/completions", json=body) as answer:
            said: Any = await answer.json(content_type=None)
            if answer.status != 200:
                raise EngineError(f"{url} answered {answer.status} while it was measured", details=[str(said)[:500]])
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise EngineError(f"{url} stopped answering while it was measured: {error}") from error
    return time.perf_counter() - began


def fit(observations: Sequence[Observation]) -> Calibration:
    """The time model that comes nearest to the observations, relative to each one's size.

    Raises:
        EngineError: there are fewer observations than coefficients, or times that are not positive.
    """
    if len(observations) < 5 or any(o.seconds <= 0 for o in observations):
        raise EngineError(
            "the measurements are too few or too noisy to fit a time model",
            hint="measure again with nothing else running",
        )
    rows = [[x / o.seconds for x in o.features()] for o in observations]
    best = min(
        (
            weights
            for used in _subsets(len(rows[0]))
            if (weights := _least_squares(rows, used)) is not None and min(weights) >= 0
        ),
        key=lambda weights: _squared_error(rows, weights),
    )
    predicted = [sum(x * w for x, w in zip(row, best, strict=True)) for row in rows]
    call, step, token, pair, context = best
    return Calibration(
        cost=Measured(fixed_s=step, token_s=token, pair_s=pair, context_s=context),
        call_overhead_s=call,
        error=sum(abs(p - 1) for p in predicted) / len(predicted),
    )


def _subsets(count: int) -> list[tuple[int, ...]]:
    """Every choice of coefficients that are not zero; few enough to try them all."""
    return [c for size in range(1, count + 1) for c in itertools.combinations(range(count), size)]


def _squared_error(rows: list[list[float]], weights: Sequence[float]) -> float:
    return sum((sum(x * w for x, w in zip(row, weights, strict=True)) - 1) ** 2 for row in rows)


def _least_squares(rows: list[list[float]], used: tuple[int, ...]) -> list[float] | None:
    """Weights with Σ weight·x nearest to 1 in each row, those not ``used`` zero; None if that is not determined."""
    # Columns differ by many orders of magnitude: scaled to 1 each, the normal equations stay solvable.
    scales = {j: max(abs(row[j]) for row in rows) or 1.0 for j in used}
    matrix = [
        [sum(row[i] / scales[i] * row[j] / scales[j] for row in rows) for j in used]
        + [sum(row[i] / scales[i] for row in rows)]
        for i in used
    ]
    size = len(used)
    for column in range(size):
        pivot = max(range(column, size), key=lambda r: abs(matrix[r][column]))
        if abs(matrix[pivot][column]) < 1e-12:
            return None
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        for row in range(size):
            if row != column:
                factor = matrix[row][column] / matrix[column][column]
                matrix[row] = [a - factor * b for a, b in zip(matrix[row], matrix[column], strict=True)]
    weights = [0.0] * len(rows[0])
    for position, j in enumerate(used):
        weights[j] = matrix[position][size] / matrix[position][position] / scales[j]
    return weights
