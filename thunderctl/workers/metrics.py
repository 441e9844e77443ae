"""What a vLLM server says about itself on ``/metrics``. Reads; decides nothing.

Names come and go between versions of vLLM: one that is missing reads as 0, and so does a server that has just begun.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from thunderctl.errors import EngineError

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class EngineSample:
    """One reading; totals count from the server's start and are in tokens unless named otherwise."""

    running: int
    """Requests in the batch."""
    waiting: int
    """Requests that wait for a place in it."""
    kv_usage: float
    """Share of KV blocks that running requests hold, 0 to 1; idle cached prefixes do not count."""
    prefix_queries: int
    prefix_hits: int
    preemptions: int
    """Number of requests that lost their KV blocks while running."""
    prompt_tokens: int
    prompt_tokens_cached: int
    generation_tokens: int


async def read_metrics(session: aiohttp.ClientSession, url: str) -> EngineSample:
    """Read ``/metrics`` of the server at ``url`` (without ``/v1``).

    Raises:
        EngineError: the server did not answer, or not with metrics.
    """
    return parse_metrics(await fetch_metrics(session, url))


async def fetch_metrics(session: aiohttp.ClientSession, url: str) -> str:
    """The text of ``/metrics``; ``EngineError`` if there is none."""
    try:
        async with session.get(f"{url}/metrics", timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as answer:
            if answer.status != 200:
                raise EngineError(f"{url}/metrics answered {answer.status}")
            return await answer.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise EngineError(f"{url}/metrics does not answer: {error or type(error).__name__}") from error


def parse_metrics(text: str) -> EngineSample:
    """The figures of an exposition; those of several engines behind one server are added (``kv_usage``: averaged)."""
    totals: dict[str, float] = {}
    usages: list[float] = []
    for sample in _samples(text):
        totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
        if sample.name == "vllm:kv_cache_usage_perc":
            usages.append(sample.value)

    def count(name: str) -> int:
        return int(totals.get(f"vllm:{name}", 0))

    return EngineSample(
        running=count("num_requests_running"),
        waiting=count("num_requests_waiting"),
        kv_usage=sum(usages) / len(usages) if usages else 0.0,
        prefix_queries=count("prefix_cache_queries_total"),
        prefix_hits=count("prefix_cache_hits_total"),
        preemptions=count("num_preemptions_total"),
        prompt_tokens=count("prompt_tokens_total"),
        prompt_tokens_cached=count("prompt_tokens_cached_total"),
        generation_tokens=count("generation_tokens_total"),
    )


def parse_capacity(text: str) -> tuple[int, int] | None:
    """KV capacity and block size, both in tokens, of a server's exposition; None if it does not tell.

    ``kv_cache_size_tokens`` is preferred: with sliding windows or hybrid models, blocks × block size is more than
    what contexts can really have.
    """
    capacity = 0
    block_size = 0
    for sample in _samples(text):
        if sample.name != "vllm:cache_config_info":
            continue
        block_size = _whole(sample.labels.get("block_size"))
        said = _whole(sample.labels.get("kv_cache_size_tokens"))
        capacity += said or _whole(sample.labels.get("num_gpu_blocks")) * block_size
    return (capacity, block_size) if capacity and block_size else None


def _samples(text: str) -> Iterator[Sample]:
    try:
        for family in text_string_to_metric_families(text):
            yield from family.samples
    except ValueError as error:
        raise EngineError(f"/metrics is not Prometheus text: {error}") from error


def _whole(text: str | None) -> int:
    """A label as a number; labels say ``None`` where there is none."""
    try:
        return int(float(text or 0))
    except ValueError:
        return 0
