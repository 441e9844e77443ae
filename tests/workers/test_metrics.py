"""Reading a server's exposition: with everything, with little, with nothing that makes sense."""

from __future__ import annotations

import aiohttp
import pytest

from thunderctl.errors import EngineError
from thunderctl.profile import Profile
from thunderctl.workers.external import ExternalWorker
from thunderctl.workers.launch import hold_port
from thunderctl.workers.metrics import EngineSample, parse_capacity, parse_metrics, read_metrics

FULL = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0"} 2.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:kv_cache_usage_perc{engine="1"} 0.25
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0"} 1000.0
# TYPE vllm:prefix_cache_hits counter
vllm:prefix_cache_hits_total{engine="0"} 400.0
# TYPE vllm:num_preemptions counter
vllm:num_preemptions_total{engine="0"} 5.0
# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total{engine="0"} 1000.0
# TYPE vllm:prompt_tokens_cached counter
vllm:prompt_tokens_cached_total{engine="0"} 390.0
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{engine="0"} 77.0
"""


def test_a_full_exposition_is_read_and_engines_are_added() -> None:
    assert parse_metrics(FULL) == EngineSample(4, 2, 0.375, 1000, 400, 5, 1000, 390, 77)


def test_names_that_are_missing_read_as_zero() -> None:
    assert parse_metrics("vllm:num_requests_running 1\n") == EngineSample(1, 0, 0.0, 0, 0, 0, 0, 0, 0)
    assert parse_metrics("") == EngineSample(0, 0, 0.0, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("labels", "capacity"),
    [
        ('block_size="32",num_gpu_blocks="640",kv_cache_size_tokens="20000"', (20000, 32)),
        ('block_size="32",num_gpu_blocks="640",kv_cache_size_tokens="None"', (20480, 32)),
        ('block_size="16",num_gpu_blocks="640"', (10240, 16)),
        ('block_size="None",num_gpu_blocks="None"', None),
    ],
)
def test_capacity_is_the_size_in_tokens_or_blocks_times_block_size(
    labels: str, capacity: tuple[int, int] | None
) -> None:
    assert parse_capacity(f'vllm:cache_config_info{{engine="0",{labels}}} 1.0\n') == capacity


async def test_a_server_that_is_not_there_is_an_engine_error() -> None:
    holder, port = hold_port()  # bound but not listening: refused
    with holder:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(EngineError, match="does not answer"):
                await read_metrics(session, f"http://127.0.0.1:{port}")
        theirs = Profile.model_validate(
            {
                "name": "theirs",
                "engine": {"kind": "external"},
                "workers": {"urls": [f"http://127.0.0.1:{port}/v1"]},
            }
        )
        worker = ExternalWorker(theirs, 0)
        with pytest.raises(EngineError, match=f"127.0.0.1:{port} does not answer") as caught:
            await worker.wait_ready()
        assert "workers.urls" in (caught.value.hint or "")
        assert not worker.alive
