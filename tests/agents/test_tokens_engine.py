"""Token mode before a real vLLM: what it sends back is what an agent holds, for agents with and without tools."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from thunderctl.agents.client import DaemonClient
from thunderctl.agents.desk import Desk
from thunderctl.agents.kinds import AGENTS
from thunderctl.agents.loop import TaskAgent
from thunderctl.agents.rollout import Rollout
from thunderctl.agents.tokens import Transcript
from thunderctl.profile import ToolEnvironmentSpec
from thunderctl.rollouts.schema import NOT_THE_MODEL
from thunderctl.runs.rehearsal import a_rehearsal
from thunderctl.workers.launch import Worker
from thunderctl.workload.load import find_workload, load_tasks, load_workload

pytestmark = pytest.mark.engine

END = 3
"""The small model's end of a turn."""
BLOCK = 32


class Between:
    """Stands before an engine, notes what is said, and cuts answers off after ``cuts`` tokens, as new weights do."""

    def __init__(self, url: str, cuts: list[int]) -> None:
        self._url = url
        self.cuts = cuts
        self.calls: list[tuple[dict[str, Any], dict[str, Any]]] = []
        """Each completion's request, and its one choice."""
        self.tokenised: list[dict[str, Any]] = []

    async def pass_on(self, request: web.Request) -> web.Response:
        raw = await request.read()
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, self._url + request.path, data=raw, headers=request.headers) as answer,
        ):
            if answer.status != 200 or request.path not in ("/v1/completions", "/tokenize"):
                return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)
            body, said = await request.json(), await answer.json()
        if request.path == "/tokenize":
            self.tokenised.append(body)
            return web.json_response(said)
        choice = said["choices"][0]
        if self.cuts and self.cuts[0] < len(choice["token_ids"]):
            cut = self.cuts.pop(0)
            kept = {"token_ids": choice["token_ids"][:cut], "text": "?", "finish_reason": "abort"}
            choice |= kept | {"logprobs": {"token_logprobs": choice["logprobs"]["token_logprobs"][:cut]}}
        self.calls.append((body, choice))
        return web.json_response(said, headers={"X-Thunderctl-Weights": str(len(self.calls))})


@asynccontextmanager
async def between(url: str, cuts: list[int]) -> AsyncIterator[tuple[Between, str]]:
    middle = Between(url, cuts)
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{rest:.*}", middle.pass_on)
    server = TestServer(app)
    await server.start_server()
    yield middle, str(server.make_url("")).rstrip("/")
    await server.close()


async def agents_of(url: str, workload: str, name: str, samples: int, steps: int) -> list[TaskAgent[Any, Any]]:
    """Samples of a bundled task, replayed with tools in local folders for so many steps."""
    folder = find_workload(workload)
    spec = load_workload(folder)
    (task,) = [each for each in load_tasks(folder, spec) if each.instance_id == name]
    local, began = ToolEnvironmentSpec(backend="local"), time.monotonic()
    agents = []
    async with a_rehearsal(local, progress=lambda line: None) as client, client:
        client.url, client.model = url, "small"
        for sample in range(samples):
            rollout = Rollout(f"a{sample}", f"r/{name}/{sample}", name, "replay", group="g")
            desk = Desk(
                client,
                "r",
                lambda: time.monotonic() - began,
                lambda _rollout, _step: None,
                over=lambda rollout=rollout: rollout.steps >= steps,
                tokens=True,
            )
            agents.append(AGENTS[spec.kind](desk, spec, task, rollout))
        await asyncio.gather(*(agent.run() for agent in agents))
        for agent in agents:
            rollout = agent._rollout
            assert (rollout.status, rollout.error, rollout.steps) == ("cut off", None, steps)
    return agents


@pytest.mark.parametrize(
    ("workload", "name", "samples"),
    [("swebench", "weftmerge__empty-conflict-0629", 2), ("openhands", "turnpike__banned-turns-1530", 1)],
)
async def test_a_bundled_tasks_samples_hold_what_the_engine_computed(
    engine_worker: Worker, workload: str, name: str, samples: int
) -> None:
    async with between(engine_worker.url, []) as (middle, url):
        agents = await agents_of(url, workload, name, samples, steps=3)
    sent_back = [(choice["prompt_token_ids"], choice) for _, choice in middle.calls]
    first_prompts = []
    for agent in agents:
        assert agent.transcript is not None and agent.transcript.breaks == []
        (segment,) = agent.transcript.segments
        assert len(segment.ids) == len(segment.mask) == len(segment.versions) and segment.logprobs is not None
        assert len(segment.logprobs) == len(segment.ids) and len(segment.turns) == 3
        first_prompts.append(segment.ids[: segment.turns[0].start])
        for turn in segment.turns:
            prompt, said = segment.ids[: turn.start], segment.ids[turn.start : turn.end]
            (choice,) = [c for ids, c in sent_back if ids == prompt][:1]
            assert said == choice["token_ids"] and said[-1] == END and turn.finish_reason == "stop"
            given = segment.logprobs[turn.start : turn.end]
            # A forced token has the probability that the model gives it, and a model of random weights gives little.
            assert given == choice["logprobs"]["token_logprobs"] and all(-30 < each < -1 for each in given)
            assert segment.mask[turn.start : turn.end] == [1] * len(said)
        assert sum(segment.mask) == sum(turn.end - turn.start for turn in segment.turns)
        for past, turn in zip(segment.turns, segment.turns[1:], strict=False):
            assert turn.cached_tokens >= (past.end - 1) // BLOCK * BLOCK
    assert all(prompt == first_prompts[0] for prompt in first_prompts)


async def test_ids_and_probabilities_that_came_in_pieces_are_those_of_one_answer(engine_worker: Worker) -> None:
    text = "I look – \U0001f680\U0001f680 naïve.\n\n```bash\ngrep -n 'x' *.py\n```"
    messages = [{"role": "system", "content": "S " * 50}, {"role": "user", "content": "U"}]
    async with between(engine_worker.url, []) as (_, url), DaemonClient(url, model="small") as client:
        whole = Transcript(client)
        answer = await whole.ask("p", messages, step=1, max_tokens=200, replay=text)
    count = answer.output_tokens
    async with between(engine_worker.url, [5, 0, 4]) as (middle, url), DaemonClient(url, model="small") as client:
        pieces = Transcript(client)
        again = await pieces.ask("p", messages, step=1, max_tokens=200, replay=text)
    assert answer.content == again.content == text and again.output_tokens > count
    (one,), (other,) = whole.segments, pieces.segments
    assert one.ids == other.ids and one.mask == other.mask
    assert one.logprobs is not None and other.logprobs == pytest.approx(one.logprobs, abs=0.05)
    start = other.turns[0].start
    assert other.versions == [NOT_THE_MODEL] * start + [1] * 5 + [3] * 4 + [4] * (count - 9)
    assert [len(body["prompt"]) - start for body, _ in middle.calls] == [0, 5, 5, 9]


async def test_a_live_answer_that_is_cut_off_by_its_limit_is_gone_on_from_with_its_turn_ended(
    engine_worker: Worker, tmp_path: Path
) -> None:
    messages = [{"role": "user", "content": "Say something."}]
    async with DaemonClient(engine_worker.url, model="small") as client:
        transcript = Transcript(client)
        for step in (1, 2, 3):
            how = {"temperature": 0.8, "top_p": 0.9}
            answer = await transcript.ask("p", messages, step=step, max_tokens=12, sampling=how)
            said = {"role": "assistant", "content": answer.content}
            messages = [*messages, said, {"role": "user", "content": f"And {step}?"}]
        new = await client.tokenize([{"role": "user", "content": "And 2?"}], None, True)
    (segment,) = transcript.segments
    *_, before, last = segment.turns
    ended = segment.ids[before.end - 1] == END
    assert segment.ids[before.end : last.start] == [*([] if ended else [END]), *new]
    assert segment.mask[before.end : last.start] == [0] * (last.start - before.end)
