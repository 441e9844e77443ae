"""Measures how long a real worker's steps take, and fits the simulator's time model to it.

Prefill: cold prompts of several lengths, one token of answer each. Decode: batches whose prompts are cached already,
at several batch sizes and contexts; the difference between a long and a short answer is nothing but decode steps.
Answers are forced where the worker can replay, because forcing costs time as well. Text: a cached chat as an agent
sends it, which has to be tokenised. The fit is ordinary least squares on relative errors, with no negative coefficient.
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
TEXTS = (10, 100, 400)
"""Lines of a chat; a line is some 25 tokens."""
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
    sampled: int
    seconds: float
    text_tokens: int = 0
    """Prompt tokens that had to be made from text."""

    def features(self) -> tuple[float, ...]:
        """In the order of the coefficients: call, step, token, pair, context, sample, text token."""
        return (self.calls, self.steps, self.tokens, self.pairs, self.context, self.sampled, self.text_tokens)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted time model."""

    cost: Measured
    call_overhead_s: float
    """Seconds of a call that are not engine steps."""
    text_token_s: float
    """Seconds to make a prompt token from text, outside of the engine's steps."""
    error: float
    """Mean relative error of the fit over its own observations."""


async def observe(
    url: str, facts: WorkerFacts, *, batched_tokens: int, replay: bool, progress: Callable[[str], None]
) -> list[Observation]:
    """Time the server at ``url`` (without ``/v1``); takes a minute or a few. It must have nothing else to do.

    ``replay``: the worker can be told its answers.
    """
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
            found.append(await _decode_observation(session, url, facts.model, context, batch, replay=replay))
        for lines in TEXTS:
            progress(f"a chat of {lines:,} lines")
            observation = await _text_observation(session, url, facts.model, lines)
            if observation.context <= longest:
                found.append(observation)
    return found


def _prefill_observation(size: int, batched_tokens: int, seconds: float) -> Observation:
    ends = [*range(batched_tokens, size, batched_tokens), size]
    return Observation(f"prefill {size}", 1, len(ends), size, pairs_of(0, size), sum(ends), 1, seconds)


async def _decode_observation(
    session: aiohttp.ClientSession, url: str, model: str, context: int, batch: int, *, replay: bool
) -> Observation:
    prompts = [_prompt(context) for _ in range(batch)]
    for prompt in prompts:
        await _complete(session, url, model, prompt, 1)

    async def timed(tokens: int) -> float:
        began = time.perf_counter()
        said = [_prompt(tokens) if replay else None for _ in prompts]
        pairs = zip(prompts, said, strict=True)
        await asyncio.gather(*(_complete(session, url, model, prompt, tokens, answer) for prompt, answer in pairs))
        return time.perf_counter() - began

    differences = [await timed(LONG_ANSWER) - await timed(SHORT_ANSWER) for _ in range(REPEATS)]
    steps = LONG_ANSWER - SHORT_ANSWER
    read = batch * sum(context + position for position in range(SHORT_ANSWER, LONG_ANSWER))
    seconds = statistics.median(differences)
    return Observation(f"decode {batch} × {context}", 0, steps, batch * steps, read, read, batch * steps, seconds)


async def _text_observation(session: aiohttp.ClientSession, url: str, model: str, lines: int) -> Observation:
    """A chat that is cached but for its last block: what remains is HTTP, the chat template and the tokeniser."""
    source = [f"    value_{n} = compute(items[{n}], previous=value_{n - 1})  # line {n}" for n in range(lines)]
    messages = [{"role": "user", "content": "\n".join(source)}]
    body = {"model": model, "messages": messages, "max_tokens": 1, "ignore_eos": True, "temperature": 0}
    times = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        said = await _post(session, f"{url}/v1/chat/completions", body)
        times.append(time.perf_counter() - began)
    prompt = int(said["usage"]["prompt_tokens"])
    new = prompt - int((said["usage"].get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    return Observation(
        f"chat of {prompt}", 1, 1, new, pairs_of(prompt - new, new), prompt, 1, statistics.median(times[1:]), prompt
    )


def _prompt(size: int) -> list[int]:
    return random.SystemRandom().choices(_IDS, k=size)


async def _complete(
    session: aiohttp.ClientSession,
    url: str,
    model: str,
    prompt: list[int],
    tokens: int,
    answer: list[int] | None = None,
) -> float:
    """Seconds of one completion of exactly ``tokens`` tokens; ``answer``: those that it is forced to give."""
    body: dict[str, Any] = {"model": model, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True}
    if answer is not None:
        body["vllm_xargs"] = {"replay": answer}
    began = time.perf_counter()
    await _post(session, f"{url}/v1/completions", body)
    return time.perf_counter() - began


async def _post(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Any:
    try:
        async with session.post(url, json=body) as answer:
            said: Any = await answer.json(content_type=None)
            if answer.status != 200:
                raise EngineError(f"{url} answered {answer.status} while it was measured", details=[str(said)[:500]])
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise EngineError(f"{url} stopped answering while it was measured: {error}") from error
    return said


def fit(observations: Sequence[Observation]) -> Calibration:
    """The time model that comes nearest to the observations, relative to each one's size.

    Raises:
        EngineError: there are fewer observations than coefficients, or times that are not positive.
    """
    if len(observations) < 7 or any(o.seconds <= 0 for o in observations):
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
    call, step, token, pair, context, sample, text = best
    return Calibration(
        cost=Measured(fixed_s=step, token_s=token, pair_s=pair, context_s=context, sample_s=sample),
        call_overhead_s=call,
        text_token_s=text,
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
