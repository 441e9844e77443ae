"""An emulated worker is vLLM in everything but the arithmetic: what clients see, what it counts, how long it takes."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from thunderctl.errors import EngineError
from thunderctl.profile import Profile
from thunderctl.workers.doors import Doors
from thunderctl.workers.emulation import Lag
from thunderctl.workers.engine import EngineEnvironment
from thunderctl.workers.inside.thunderctl_timing import Measured, pairs_of, to_json
from thunderctl.workers.launch import Worker
from thunderctl.workers.metrics import fetch_metrics, parse_capacity, read_metrics

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

COST = Measured(fixed_s=0.005, token_s=1e-4, pair_s=1e-8, context_s=1e-7)
END = 3
"""The small model's token that ends a turn."""


def emulated_profile(folder: Path, **emulation: Any) -> Profile:
    costs = folder / "costs.json"
    costs.write_text(json.dumps({"cost": json.loads(to_json(COST))}))
    return Profile.model_validate(
        {
            "name": "test",
            "engine": {"kind": "emulated"},
            "model": {"served_name": "small", "max_model_len": 8192},
            "emulation": {"costs": str(costs), **emulation},
            "workers": {"kv_tokens": 16384, "max_num_batched_tokens": 2048, "weight_updates": True},
        }
    )


async def started(profile: Profile, engine: EngineEnvironment, model: Path, folder: Path) -> AsyncIterator[Worker]:
    worker = Worker(profile, 0, engine, model, folder / "worker.log")
    await worker.start()
    try:
        await worker.wait_ready(print)
        yield worker
    finally:
        await worker.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(
    engine_environment: EngineEnvironment, small_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Worker]:
    folder = tmp_path_factory.mktemp("emulated")
    async for one in started(emulated_profile(folder), engine_environment, small_model, folder):
        yield one


async def complete(worker: Worker, prompt: list[int], **more: Any) -> tuple[int, Any]:
    body = {"model": "small", "prompt": prompt, "return_token_ids": True, **more}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300)) as session,
        session.post(f"{worker.url}/v1/completions", json=body) as answer,
    ):
        return answer.status, await answer.json()


def prompt_of(size: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(300, 8000), k=size)


def pace(worker: Worker) -> Lag:
    found = worker.read_lag()
    assert found is not None
    return found


async def test_its_capacity_is_the_one_that_was_asked_for_in_blocks_of_a_gpu(worker: Worker) -> None:
    async with aiohttp.ClientSession() as session:
        assert parse_capacity(await fetch_metrics(session, worker.url)) == (16384, 16)


async def test_a_script_comes_back_token_for_token_and_its_prefix_is_cached(worker: Worker) -> None:
    prompt, script = prompt_of(1000, 1), prompt_of(100, 2)
    status, first = await complete(worker, prompt, max_tokens=100, ignore_eos=True, vllm_xargs={"replay": script})
    assert status == 200, first
    assert first["choices"][0]["token_ids"] == script
    assert first["usage"]["completion_tokens"] == 100
    status, second = await complete(
        worker, prompt + script + prompt_of(50, 3), max_tokens=5, vllm_xargs={"replay": [500]}
    )
    assert second["choices"][0]["token_ids"] == [500, END]
    assert second["choices"][0]["finish_reason"] == "stop"
    # The last token of the answer was sampled and never computed: its block is not full.
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == 1099 // 16 * 16


async def test_weights_are_changed_through_the_same_doors_and_what_was_cached_is_forgotten(
    worker: Worker, tmp_path: Path
) -> None:
    prompt = prompt_of(320, 71)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        doors = Doors(session, "w0", worker.url)
        await complete(worker, prompt, max_tokens=2)
        long = asyncio.create_task(complete(worker, prompt, max_tokens=4000, ignore_eos=True))
        await asyncio.sleep(0.5)
        await doors.pause()
        _, cut = await long
        assert cut["choices"][0]["finish_reason"] == "abort"
        assert cut["usage"]["prompt_tokens_details"]["cached_tokens"] == 304
        with pytest.raises(EngineError, match="no folder"):
            await doors.load(str(tmp_path / "none"))
        await doors.load(str(tmp_path))
        held = asyncio.create_task(complete(worker, prompt, max_tokens=2))
        await asyncio.sleep(0.2)
        await doors.pause()  # whoever came in late is cut off as well
        assert (await held)[1]["choices"][0]["token_ids"] == []
        await doors.drop_cache()
        await doors.resume()
    _, first = await complete(worker, prompt, max_tokens=2)
    _, second = await complete(worker, prompt, max_tokens=2)
    cached = [answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in (first, second)]
    assert cached == [0, 304]


async def test_a_step_takes_exactly_what_the_time_model_says_and_never_less_on_the_wall(worker: Worker) -> None:
    before, began = pace(worker), time.monotonic()
    status, _ = await complete(worker, prompt_of(3000, 4), max_tokens=4, ignore_eos=True)
    elapsed = time.monotonic() - began
    assert status == 200
    after = pace(worker)
    # Two chunks of the prompt (2,048 and 952 tokens), then three more tokens, one a step.
    expected = COST.step_s(tokens=2048, context=2048, pairs=pairs_of(0, 2048))
    expected += COST.step_s(tokens=952, context=3000, pairs=pairs_of(2048, 952))
    expected += sum(COST.step_s(tokens=1, context=3000 + n, pairs=3000 + n) for n in (1, 2, 3))
    assert after.steps - before.steps == 5
    assert after.busy_s - before.busy_s == pytest.approx(expected, rel=1e-6)
    assert elapsed >= expected * 0.99


async def test_made_up_answers_keep_to_the_limits_that_were_asked_for(worker: Worker) -> None:
    prompt = prompt_of(20, 5)
    _, cut = await complete(worker, prompt, max_tokens=7, ignore_eos=True)
    assert (len(cut["choices"][0]["token_ids"]), cut["choices"][0]["finish_reason"]) == (7, "length")
    _, long = await complete(worker, prompt, max_tokens=400, min_tokens=300, seed=1)
    assert len(long["choices"][0]["token_ids"]) >= 300
    assert END not in long["choices"][0]["token_ids"][:300]
    _, allowed = await complete(worker, prompt, max_tokens=20, ignore_eos=True, allowed_token_ids=[400, 401])
    assert set(allowed["choices"][0]["token_ids"]) <= {400, 401}
    _, stopped = await complete(
        worker, prompt, max_tokens=20, stop_token_ids=[402], vllm_xargs={"replay": [400, 401, 402, 403]}
    )
    assert stopped["choices"][0]["token_ids"] == [400, 401, 402]
    assert stopped["choices"][0]["finish_reason"] == "stop"


async def test_most_made_up_answers_end_by_themselves(worker: Worker) -> None:
    answers = await asyncio.gather(*(complete(worker, prompt_of(20, n), max_tokens=2000) for n in range(20)))
    reasons = [answer["choices"][0]["finish_reason"] for _, answer in answers]
    assert reasons.count("stop") >= 18
    assert len({answer["usage"]["completion_tokens"] for _, answer in answers}) > 10


async def test_a_seed_repeats_an_answer_and_samples_of_one_request_differ(worker: Worker) -> None:
    prompt = prompt_of(20, 6)
    one, two, other = [
        (await complete(worker, prompt, max_tokens=30, ignore_eos=True, seed=seed))[1]["choices"][0]["token_ids"]
        for seed in (7, 7, 8)
    ]
    assert one == two != other
    _, several = await complete(worker, prompt, max_tokens=30, ignore_eos=True, n=3, temperature=1.0)
    assert len({tuple(choice["token_ids"]) for choice in several["choices"]}) == 3


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"logprobs": 2}, "computes no probabilities"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "cannot follow a grammar"),
        ({"vllm_xargs": {"replay": [999_999]}}, "no such token id"),
    ],
)
async def test_what_it_cannot_do_honestly_is_a_400_and_it_lives(
    worker: Worker, more: dict[str, Any], reason: str
) -> None:
    status, answer = await complete(worker, prompt_of(20, 9), max_tokens=5, **more)
    assert status == 400, answer
    assert reason in answer["error"]["message"]
    assert (await complete(worker, prompt_of(20, 9), max_tokens=5))[0] == 200


async def test_scripts_survive_preemption(worker: Worker) -> None:
    # Four prompts of 4,000 tokens fit into 16,384; with 300 tokens of answer each they do not.
    scripts = [prompt_of(300, 50 + n) for n in range(4)]
    async with aiohttp.ClientSession() as session:
        before = await read_metrics(session, worker.url)
        answers = await asyncio.gather(
            *(
                complete(worker, prompt_of(4000, n), max_tokens=300, ignore_eos=True, vllm_xargs={"replay": script})
                for n, script in enumerate(scripts)
            )
        )
        after = await read_metrics(session, worker.url)
    assert [answer["choices"][0]["token_ids"] for _, answer in answers] == scripts
    assert after.preemptions > before.preemptions


async def test_a_client_that_hangs_up_frees_its_place(worker: Worker) -> None:
    async def hang_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await complete(worker, prompt_of(100, 77), max_tokens=5000, ignore_eos=True)

    async with aiohttp.ClientSession() as session:
        await hang_up()
        for _ in range(50):
            if (await read_metrics(session, worker.url)).running == 0:
                break
            await asyncio.sleep(0.1)
        assert (await read_metrics(session, worker.url)).running == 0


async def test_drafts_never_change_an_answer_and_are_accounted_for(
    engine_environment: EngineEnvironment, small_model: Path, tmp_path: Path
) -> None:
    profile = emulated_profile(tmp_path, draft_tokens=3, acceptance=0.8)
    async for worker in started(profile, engine_environment, small_model, tmp_path):
        before = pace(worker)
        scripts = [prompt_of(400, n) for n in range(3)]
        answers = await asyncio.gather(
            *(
                complete(worker, prompt_of(50, 60 + n), max_tokens=400, ignore_eos=True, vllm_xargs={"replay": script})
                for n, script in enumerate(scripts)
            )
        )
        assert [answer["choices"][0]["token_ids"] for _, answer in answers] == scripts
        # 1 + 0.8 + 0.64 + 0.51 = 2.95 tokens a step on average.
        assert 110 < pace(worker).steps - before.steps < 220
        async with aiohttp.ClientSession() as session:
            text = await fetch_metrics(session, worker.url)
        drafted, accepted = (
            sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"vllm:spec_decode_{name}"))
            for name in ("num_draft_tokens_total", "num_accepted_tokens_total")
        )
        assert 0.55 < accepted / drafted < 0.75  # (0.8 + 0.64 + 0.51) ÷ 3 = 0.65
