"""A real vLLM server, started by us: forced replay, prefix hits, refusals, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from thunderctl.errors import EngineError
from thunderctl.profile import Profile
from thunderctl.workers.engine import EngineEnvironment
from thunderctl.workers.external import ExternalWorker
from thunderctl.workers.launch import Worker
from thunderctl.workers.metrics import read_metrics

pytestmark = pytest.mark.engine

ANSWER = "\n\n  I'll look at `parser.py` first.\n```bash\ngrep -n 'naïve' src/*.py | head -5\n```\n\U0001f680 done"


async def post(url: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300)) as session,
        session.post(f"{url}{path}", json={"model": "small", **body}) as answer,
    ):
        return answer.status, await answer.json()


async def chat(worker: Worker, messages: list[dict[str, str]], replay: Any = None, **more: Any) -> Any:
    extra = {} if replay is None else {"vllm_xargs": {"replay": replay}}
    status, answer = await post(worker.url, "/v1/chat/completions", {"messages": messages, **extra, **more})
    assert status == 200, answer
    return answer


def words(count: int, seed: int) -> str:
    dice = random.Random(seed)
    return " ".join(dice.choice(["return", "self", "value", "if", "None", "import", "tree"]) for _ in range(count))


async def test_the_facts_are_what_the_profile_asked_for(engine_worker: Worker) -> None:
    facts = engine_worker.facts
    assert facts is not None
    assert (facts.capacity_tokens, facts.block_size, facts.max_model_len, facts.model) == (16384, 32, 8192, "small")
    assert facts.prefill_tokens_per_s > 100


async def test_a_replayed_text_comes_back_exactly_and_ends_its_turn(engine_worker: Worker) -> None:
    answer = await chat(engine_worker, [{"role": "user", "content": "hello"}], ANSWER)
    assert answer["choices"][0]["message"]["content"] == ANSWER
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_concurrent_replays_of_different_lengths_leave_an_unforced_request_alone(
    engine_worker: Worker,
) -> None:
    texts = [words(length, seed=length) + f"\n{length}" for length in (1, 150, 7, 90, 40, 3)]
    question = [{"role": "user", "content": "who are you?"}]
    free = {"temperature": 0, "max_tokens": 60, "logprobs": True, "top_logprobs": 2}
    alone = await chat(engine_worker, question, **free)
    *forced, beside = await asyncio.gather(
        *(chat(engine_worker, [{"role": "user", "content": words(50, i)}], text) for i, text in enumerate(texts)),
        chat(engine_worker, question, **free),
    )
    assert [answer["choices"][0]["message"]["content"] for answer in forced] == texts
    said = beside["choices"][0]
    assert said["finish_reason"] == alone["choices"][0]["finish_reason"] == "length"
    assert said["message"]["content"] not in texts
    # A forced row has one finite logit; a free one has alternatives with a probability of their own.
    assert all(token["top_logprobs"][1]["logprob"] > -100 for token in said["logprobs"]["content"])


async def test_replay_survives_preemption(engine_worker: Worker) -> None:
    # Four prompts of 4,000 tokens fit into 16,384; with what they answer they do not.
    async def complete(seed: int, text: str) -> Any:
        prompt = random.Random(seed).choices(range(300, 4000), k=4000)
        body = {"prompt": prompt, "max_tokens": 1000, "vllm_xargs": {"replay": text}}
        status, answer = await post(engine_worker.url, "/v1/completions", body)
        assert status == 200, answer
        return answer

    async with aiohttp.ClientSession() as session:
        before = await read_metrics(session, engine_worker.url)
        texts = [words(200, seed=100 + i) for i in range(4)]
        answers = await asyncio.gather(*(complete(i, text) for i, text in enumerate(texts)))
        after = await read_metrics(session, engine_worker.url)
    assert [answer["choices"][0]["text"] for answer in answers] == texts
    assert after.preemptions > before.preemptions


async def test_token_ids_can_be_replayed_as_they_are(engine_worker: Worker) -> None:
    ids = [500, 501, 4000, 8191, 300]
    answer = await chat(engine_worker, [{"role": "user", "content": "x"}], ids, return_token_ids=True)
    end = 3
    assert answer["choices"][0]["token_ids"] == [*ids, end]


async def test_a_continued_chat_finds_its_whole_past_in_the_cache(engine_worker: Worker) -> None:
    block = 32
    messages = [{"role": "system", "content": words(600, 7)}, {"role": "user", "content": "\n\nfirst question"}]
    for turn in range(3):
        said = f"\n  {ANSWER}\n{turn}\n"
        answer = await chat(engine_worker, messages, said, return_token_ids=True)
        past = answer["prompt_token_ids"] + answer["choices"][0]["token_ids"]
        messages += [{"role": "assistant", "content": said}, {"role": "tool", "content": f"\n\nresult {turn}\n"}]
        following = await chat(engine_worker, messages, "ok", return_token_ids=True)
        assert following["prompt_token_ids"][: len(past)] == past
        # The last token of an answer is sampled but never computed.
        computed = (len(past) - 1) // block * block
        assert following["usage"]["prompt_tokens_details"]["cached_tokens"] >= computed


@pytest.mark.parametrize(
    ("replay", "reason"),
    [
        (3.5, "a text or a list of token ids"),
        (["a", "b"], "a text or a list of token ids"),
        ([1, -4], "no such token id: -4"),
        ([1, 999_999], "no such token id: 999999"),
        (words(20_000, 1), "may be generated"),
        ([300] * 9000, "may be generated"),
    ],
)
async def test_what_cannot_be_replayed_is_a_400_and_the_server_lives(
    engine_worker: Worker, replay: Any, reason: str
) -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "vllm_xargs": {"replay": replay}}
    status, answer = await post(engine_worker.url, "/v1/chat/completions", body)
    assert status == 400, answer
    assert reason in answer["error"]["message"]
    answer = await chat(engine_worker, [{"role": "user", "content": "x"}], "still here")
    assert answer["choices"][0]["message"]["content"] == "still here"


async def test_an_external_worker_is_probed_and_left_running(engine_worker: Worker) -> None:
    profile = Profile.model_validate(
        {"name": "theirs", "engine": {"kind": "external"}, "workers": {"urls": [f"{engine_worker.url}/v1"]}}
    )
    external = ExternalWorker(profile, 0)
    await external.start()
    facts = await external.wait_ready()
    assert facts.capacity_tokens == 16384
    assert external.alive
    await external.stop()
    assert engine_worker.alive


async def test_stopping_leaves_no_process_no_port_and_no_file(
    engine_environment: EngineEnvironment,
    small_model: Path,
    engine_profile: Profile,
    tmp_path: Path,
) -> None:
    temporary = Path(tempfile.gettempdir())
    before = set(temporary.glob("thunderctl-*"))
    worker = Worker(engine_profile, 0, engine_environment, small_model, tmp_path / "worker.log")
    await worker.start()
    await worker.wait_ready()
    (scratch,) = set(temporary.glob("thunderctl-*")) - before
    assert any(scratch.iterdir())  # vLLM's sockets
    session = [process for process in psutil.process_iter() if os.getsid(process.pid) == worker.pgid]
    assert len(session) > 1  # the engine's core is a process of its own
    await worker.stop()
    assert not worker.alive
    # In a container without an init process nobody collects what the engine's own parent did not.
    assert not [one for one in session if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert not scratch.exists()
    with socket.socket() as again:
        again.bind(("127.0.0.1", int(worker.url.rsplit(":", 1)[1])))
    await worker.stop()


async def test_a_folder_without_a_model_is_an_error_that_says_so(
    engine_environment: EngineEnvironment, engine_profile: Profile, tmp_path: Path
) -> None:
    empty = tmp_path / "no-model-here"
    empty.mkdir()
    worker = Worker(engine_profile, 0, engine_environment, empty, tmp_path / "worker.log")
    await worker.start()
    try:
        with pytest.raises(EngineError) as caught:
            await worker.wait_ready()
    finally:
        await worker.stop()
    assert "ended while it was starting" in caught.value.message
    assert "no-model-here" in caught.value.details[0], caught.value.details
    assert str(worker.log_path) in (caught.value.hint or "")
