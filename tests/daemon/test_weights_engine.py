"""The real engine's weights change under calls in flight: each token tells which weights, and whose cache, made it."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.commandline import until
from tests.daemon.killable import KillableNode
from tests.daemon.telling_weights import READS, SAYS, write_telling_weights
from thunderctl.agents.client import DaemonClient
from thunderctl.agents.weights_client import update_weights, weights
from thunderctl.daemon.weights_api import PATH
from thunderctl.workers.doors import Doors
from thunderctl.workers.engine import EngineEnvironment

pytestmark = pytest.mark.engine

KNOWN = [300 + n for n in range(128)]
"""A prompt of four blocks."""
LONG = 256
LONGER = 4 * LONG
"""Tokens of an answer that takes a while."""


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, engine_environment: EngineEnvironment, small_model: Path
) -> Iterator[KillableNode]:
    node = KillableNode(tmp_path_factory.mktemp("engine") / "home")
    node.prepare(
        engine=engine_environment.python,
        served=str(small_model),
        model={"served_name": "small", "max_model_len": 2048},
        workers={"kv_tokens": 8192, "weight_updates": True},
    )
    node.start(patience_s=300)
    yield node
    node.end()


@dataclass
class Told:
    """What one call came to, in pieces: (version by the header, ids) for each answer that it took."""

    pieces: list[tuple[int, list[int]]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return [token for _, ids in self.pieces for token in ids]

    def add(self, headers: Any, choice: dict[str, Any]) -> None:
        self.pieces.append((int(headers["X-Thunderctl-Weights"]), choice["token_ids"]))
        self.reasons.append(choice["finish_reason"])


@dataclass
class Agent:
    """Makes calls of all kinds; ``client`` is the trainer's."""

    node: KillableNode
    session: aiohttp.ClientSession
    client: DaemonClient
    small: Path

    async def tokens(self, program: str, count: int = LONG, prompt: list[int] | None = None) -> Told:
        """A call in token ids that goes on by itself wherever it is cut off."""
        told = Told()
        while not told.reasons or told.reasons[-1] == "abort":
            body = self._body(program, count - len(told.ids)) | {"prompt": (prompt or [7, 8, 9]) + told.ids}
            async with self.session.post(self.node.url + "/v1/completions", json=body) as answer:
                assert answer.status == 200, await answer.text()
                told.add(answer.headers, (await answer.json())["choices"][0])
        return told

    async def chat(self, program: str, count: int = LONG) -> Told:
        told = Told()
        body = self._body(program, count) | {"messages": [{"role": "user", "content": "Say something."}]}
        async with self.session.post(self.node.url + "/v1/chat/completions", json=body) as answer:
            assert answer.status == 200, await answer.text()
            told.add(answer.headers, (await answer.json())["choices"][0])
        return told

    async def stream(self, program: str, begun: asyncio.Event | None = None, *, path: str = "chat/completions") -> Told:
        told = Told()
        body = self._body(program, LONG) | {"stream": True}
        body |= {"messages": [{"role": "user", "content": "Go on."}]} if "chat" in path else {"prompt": [7, 8, 9]}
        choice: dict[str, Any] = {"token_ids": [], "finish_reason": None}
        async with self.session.post(f"{self.node.url}/v1/{path}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])["choices"][0]
                    choice["token_ids"] += event.get("token_ids") or []
                    choice["finish_reason"] = event["finish_reason"] or choice["finish_reason"]
                    if begun is not None and choice["token_ids"]:
                        begun.set()
        told.add(answer.headers, choice)
        return told

    def _body(self, program: str, count: int) -> dict[str, Any]:
        return {
            "model": "small", "program_id": program, "max_tokens": count, "temperature": 0, "ignore_eos": True,
            "return_token_ids": True,
        }  # fmt: skip

    async def known(self, program: str) -> tuple[list[int], int, int]:
        """Ask the known prompt: what was said, how much of it was cached by usage, and by the engine's own counter."""
        before = self._hits()
        body = self._body(program, 4) | {"prompt": KNOWN}
        async with self.session.post(self.node.url + "/v1/completions", json=body) as answer:
            said = await answer.json()
        cached = said["usage"]["prompt_tokens_details"]["cached_tokens"]
        return said["choices"][0]["token_ids"], cached, self._hits() - before

    def _hits(self) -> int:
        url = self.node.get("/workers")[0]["url"]
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return int(sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:prefix_cache_hits_total")))

    async def next_weights(self, folder: Path) -> tuple[int, Path]:
        version = int((await weights(self.client))["version"]) + 1
        path = folder / str(version)
        return version, await asyncio.to_thread(write_telling_weights, path, version, self.small)


@pytest_asyncio.fixture
async def agent(node: KillableNode, small_model: Path) -> AsyncIterator[Agent]:
    timeout = aiohttp.ClientTimeout(total=300)
    async with node.client() as client, aiohttp.ClientSession(timeout=timeout) as session:
        yield Agent(node, session, client, small_model)


@pytest.mark.parametrize("mode", ["finish", "keep", "restart"])
async def test_no_token_is_of_other_weights_than_its_answer_says_and_no_cache_outlives_them(
    node: KillableNode, agent: Agent, tmp_path: Path, mode: Any
) -> None:
    old, path = await agent.next_weights(tmp_path)
    await update_weights(agent.client, path, version=old)
    assert (await agent.known(f"{mode}-k"))[0] == [SAYS + old] * 4
    assert (await agent.known(f"{mode}-k"))[1:] == (96, 96)  # all but the block with the last token
    lease = await agent.client.environment(f"{mode}-tokens", "run")
    new, path = await agent.next_weights(tmp_path)
    begun = asyncio.Event()
    streams = [asyncio.create_task(agent.stream(f"{mode}-stream", begun))]
    await asyncio.wait_for(begun.wait(), 120)
    calls = [
        asyncio.create_task(agent.tokens(f"{mode}-tokens", LONGER)),  # than the streams, which are let finish
        asyncio.create_task(agent.chat(f"{mode}-chat", LONGER)),
        asyncio.create_task(agent.stream(f"{mode}-raw", path="completions")),
    ]
    await asyncio.to_thread(until, lambda: node.get(PATH)["calls_inside"] == 4, 60)
    tool = asyncio.create_task(agent.client.execute(lease, "sleep 0.2; echo done"))
    change = await update_weights(agent.client, path, mode=mode, version=new)
    assert (change.version, change.failed) == (new, {})
    assert (change.aborted > 0) == (mode != "finish")
    # What was known before is not known any more, to the usage and to the engine's own counters, and then it is again.
    assert await agent.known(f"{mode}-k") == ([SAYS + new] * 4, 0, 0)
    assert await agent.known(f"{mode}-k") == ([SAYS + new] * 4, 96, 96)
    for number, told in enumerate(await asyncio.gather(*streams, *calls)):
        for version, ids in told.pieces:
            assert version in (old, new) and set(ids) <= {SAYS + version}, told
        wanted = LONGER if number in (1, 2) else LONG
        assert len(told.ids) == wanted or (mode == "keep" and told.reasons == ["abort"])
        assert mode != "finish" or {version for version, _ in told.pieces} == {old}
    assert (await streams[0]).pieces[0][0] == old  # it had begun: it was let finish
    assert (await tool).output.strip() == "done"
    assert (await agent.client.execute(lease, "echo still there")).output.strip() == "still there"
    await agent.client.give_back(lease)
    tally = node.get("/health")["tally"]
    assert tally["arrived"] == tally["finished"] and node.get("/health")["held_calls"] == 0
    assert (await agent.client.programs())[f"{mode}-k"]["step_count"] == 4


async def test_an_old_cache_would_show_in_what_is_said(node: KillableNode, agent: Agent, tmp_path: Path) -> None:
    """What the tests before rely on: weights that are changed behind the daemon's back, and no cache dropped."""
    old, path = await agent.next_weights(tmp_path)
    await update_weights(agent.client, path, version=old)
    assert (await agent.known("cache"))[0] == [SAYS + old] * 4
    new, path = await agent.next_weights(tmp_path)
    doors = Doors(agent.session, "w0", node.get("/workers")[0]["url"])
    await doors.pause()
    await doors.load(str(path))
    await doors.resume()
    said, cached, _ = await agent.known("cache")
    assert said == [READS + old] * 4 and cached == 96
    await update_weights(agent.client, path, version=new)
    assert await agent.known("cache") == ([SAYS + new] * 4, 0, 0)


async def test_after_kill_9_in_the_midst_of_an_update_there_is_one_version_and_the_engine_goes_on(
    node: KillableNode, agent: Agent, tmp_path: Path
) -> None:
    version, path = await agent.next_weights(tmp_path)
    pid = node.get("/workers")[0]["pid"]
    before = asyncio.create_task(agent.tokens("killed"))
    await asyncio.to_thread(until, lambda: node.get(PATH)["calls_inside"] == 1, 60)
    change = asyncio.create_task(update_weights(agent.client, path, mode="restart", version=version))
    while (await weights(agent.client))["state"] == "steady":  # without a pause: it takes a tenth of a second in all
        assert not change.done(), "it was over before it could be seen"
    node.kill()
    change.cancel()
    await asyncio.gather(before, change, return_exceptions=True)
    await asyncio.to_thread(node.start, patience_s=120)
    assert node.get("/workers")[0]["pid"] == pid
    in_force = node.get(PATH)
    assert in_force["state"] == "steady" and in_force["version"] in (version - 1, version)
    told = await agent.tokens("killed", 8)
    assert told.pieces == [(in_force["version"], [SAYS + in_force["version"]] * 8)]
    # The client repeats what it got no answer to.
    change = asyncio.create_task(update_weights(agent.client, path, version=version))
    assert (await change).version == version
    assert set((await agent.tokens("killed", 8)).ids) == {SAYS + version}
