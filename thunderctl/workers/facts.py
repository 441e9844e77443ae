"""What a server that is ready can do: capacity, context, prefill rate. Asked of the server, never assumed.

The prefill rate is measured, because the scheduler derives from it how long an idle context is worth its memory
(KV capacity ÷ prefill rate). It is that of a prompt as long as agents' contexts are: attention grows with the square,
and on a CPU a token of a short prompt costs a fourth of what a token of a long one does.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from thunderctl.errors import EngineError
from thunderctl.workers.metrics import fetch_metrics, parse_capacity

_WARM_UP_TOKENS = 8192
_WARM_UP_TIMEOUT_S = 600.0
# Ids that every vocabulary has, beyond the bytes and special tokens that come first in many.
_WARM_UP_IDS = range(300, 4000)


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """Sizes in tokens. ``prefill_tokens_per_s`` is that of one cold prompt alone on the server."""

    capacity_tokens: int
    block_size: int
    prefill_tokens_per_s: float
    max_model_len: int
    model: str


async def learn_facts(session: aiohttp.ClientSession, url: str, time_scale: float = 1.0) -> WorkerFacts:
    """Ask the server at ``url`` (without ``/v1``) what it is, and measure its prefill rate.

    ``time_scale``: seconds on the wall that one of the server's seconds takes (1 unless it is emulated).

    Raises:
        EngineError: it is not a vLLM server, or it fails at the first prompt.
    """
    capacity = parse_capacity(await fetch_metrics(session, url))
    if capacity is None:
        raise EngineError(
            f"{url}/metrics does not tell the KV capacity (vllm:cache_config_info)", hint="is it a vLLM server?"
        )
    listing = await _json(session, "GET", f"{url}/v1/models")
    try:
        card = listing["data"][0]
        model, max_model_len = str(card["id"]), int(card.get("max_model_len") or capacity[0])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise EngineError(f"{url}/v1/models names no model") from error
    # Half of the capacity at most, so that a tiny cache is not asked for more than it can hold.
    size = max(1, min(_WARM_UP_TOKENS, max_model_len - 2, capacity[0] // 2))
    await _prefill_seconds(session, url, model, size)  # the first one also pays for lazy initialisation
    seconds = await _prefill_seconds(session, url, model, size)
    return WorkerFacts(capacity[0], capacity[1], size / seconds * time_scale, max_model_len, model)


async def _prefill_seconds(session: aiohttp.ClientSession, url: str, model: str, size: int) -> float:
    """Seconds for one prompt of ``size`` random tokens, which no cache has seen, and one token of answer."""
    prompt = random.SystemRandom().choices(_WARM_UP_IDS, k=size)
    began = time.perf_counter()
    body = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0}
    await _json(session, "POST", f"{url}/v1/completions", body)
    return time.perf_counter() - began


async def _json(session: aiohttp.ClientSession, method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    try:
        async with session.request(
            method, url, json=body, timeout=aiohttp.ClientTimeout(total=_WARM_UP_TIMEOUT_S)
        ) as answer:
            if answer.status != 200:
                raise EngineError(f"{url} answered {answer.status}", details=[(await answer.text())[:500]])
            return await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise EngineError(f"{url} does not answer as expected: {error or type(error).__name__}") from error
