"""Weights that change under working agents: no answer is lost, and each token tells by itself which weights made it.

The engine is a stub whose weights are one number, which is every token that it says.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio

from tests.commandline import until
from tests.daemon.killable import KillableNode
from thunderctl.agents.client import DaemonClient
from thunderctl.agents.weights_client import WeightsChange, update_weights, weights, weights_transfer
from thunderctl.daemon.weights_api import PATH
from thunderctl.errors import DaemonError

WORKERS = {"count": 2, "startup_timeout_s": 60, "stop_grace_s": 2, "weight_updates": True}
CHAT = "/v1/chat/completions"


def write_stub_weights(folder: Path, token: int, **shapes: list[int]) -> Path:
    """A safetensors file of one byte, ``token``; ``shapes``: what its header says instead of what it has."""
    folder.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"t": {"dtype": "U8", "shape": shapes.get("t", [1]), "data_offsets": [0, 1]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes([token]))
    return folder


@pytest.fixture
def node(tmp_path: Path) -> Iterator[KillableNode]:
    node = KillableNode(tmp_path / "home", {"STUB_DELAY_S": "0.6"})
    yield node
    node.end()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KillableNode]:
    """A node for all tests that leave it as they find it: up, both workers with the weights in force."""
    node = KillableNode(tmp_path_factory.mktemp("weights") / "home", {"STUB_DELAY_S": "0.6"})
    node.prepare(workers=WORKERS)
    node.start()
    yield node
    node.end()


async def next_version(client: DaemonClient, folder: Path, mode: Any = "finish") -> WeightsChange:
    """Have weights loaded that say the number of their version."""
    version = int((await weights(client))["version"]) + 1
    return await update_weights(client, write_stub_weights(folder / str(version), version), mode=mode, version=version)


@dataclass
class Said:
    """One answer: its tokens, and the version that its header names."""

    ids: list[int]
    version: int
    reason: str
    cached: int
    worker: str


@dataclass
class Caller:
    """Whoever calls the model on behalf of programs."""

    node: KillableNode
    session: aiohttp.ClientSession

    async def tokens(self, program: str, prompt: list[int], count: int = 6, *, read_ids: bool = True) -> Said:
        body = {"model": "small", "prompt": prompt, "max_tokens": count, "program_id": program}
        if not read_ids:
            answer, headers = await self._post(CHAT, body | {"messages": [{"role": "user", "content": str(prompt)}]})
            said = answer["choices"][0]
            ids = [int(said["message"]["content"].split()[1])]
        else:
            answer, headers = await self._post("/v1/completions", body | {"return_token_ids": True})
            said = answer["choices"][0]
            ids = said["token_ids"]
        cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        version = int(headers["X-Thunderctl-Weights"])
        return Said(ids, version, said["finish_reason"], cached, headers["X-Thunderctl-Worker"])

    async def _post(self, path: str, body: dict[str, Any]) -> tuple[Any, Any]:
        async with self.session.post(self.node.url + path, json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json(), answer.headers

    async def stream(self, program: str, *, begun: asyncio.Event | None = None, count: int = 6) -> Said:
        body = {"model": "small", "prompt": [1, 2], "max_tokens": count, "program_id": program, "stream": True}
        body |= {"return_token_ids": True} if count != 6 else {}
        ids, reason = [], ""
        async with self.session.post(self.node.url + "/v1/completions", json=body) as answer:
            assert answer.status == 200
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    choice = json.loads(line[6:])["choices"][0]
                    ids += choice["token_ids"]
                    reason = choice["finish_reason"] or reason
                    if begun is not None:
                        begun.set()
        version = int(answer.headers["X-Thunderctl-Weights"])
        return Said(ids, version, reason, 0, answer.headers["X-Thunderctl-Worker"])


@pytest_asyncio.fixture
async def caller(up: KillableNode) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield Caller(up, session)


@pytest_asyncio.fixture
async def client(up: KillableNode) -> AsyncIterator[DaemonClient]:
    async with up.client() as client:
        yield client


async def in_flight(node: KillableNode, calls: int) -> None:
    """Until so many calls are with a worker."""
    await asyncio.to_thread(until, lambda: node.get(PATH)["calls_inside"] >= calls)


@pytest.mark.parametrize("mode", ["finish", "keep", "restart"])
async def test_each_mode_keeps_its_word_to_calls_of_every_kind(
    up: KillableNode, caller: Caller, client: DaemonClient, tmp_path: Path, mode: Any
) -> None:
    old = (await next_version(client, tmp_path)).version
    new = old + 1
    before = up.get("/health")["tally"]
    for n in range(4):  # a prompt that either worker knows
        await caller.tokens(f"{mode}-known{n}", [9] * 7, 1)
    begun = asyncio.Event()
    streamed = asyncio.create_task(caller.stream(f"{mode}-s", begun=begun))
    await begun.wait()
    ids = asyncio.create_task(caller.tokens(f"{mode}-t", [1, 2, 3]))
    chat = asyncio.create_task(caller.tokens(f"{mode}-c", [1, 2, 3], read_ids=False))
    beside = asyncio.create_task(caller.session.post(up.url + CHAT, json={"messages": ["x"], "max_tokens": 4}))
    await in_flight(up, 4)
    change = await next_version(client, tmp_path, mode)
    assert (change.version, change.mode, change.failed) == (new, mode, {})
    said = [await ids, await chat, await streamed]
    for answer in said:
        assert answer.ids and set(answer.ids) == {answer.version}
    # Who was to keep the old weights did, and had all of its answer; who was not was cut off or made again.
    expected = {"finish": [old, old, old], "keep": [old, new, old], "restart": [new, new, old]}
    assert [answer.version for answer in said] == expected[mode]
    assert [answer.reason for answer in said[:1]] == ["abort" if mode == "keep" else "length"]
    assert len(said[2].ids) == 5 and (mode == "keep") == (len(said[0].ids) < 6)
    assert (await (await beside).json())["choices"][0]["message"]["content"] == f"ok {old if mode == 'finish' else new}"
    assert (change.aborted > 0) == (mode != "finish")
    after = [await caller.tokens(f"{mode}-after{n}", [9] * 7, 1) for n in range(4)]
    assert {(*answer.ids, answer.version) for answer in after} == {(new, new)}
    first = {answer.worker: answer.cached for answer in reversed(after)}
    assert first == {"w0": 0, "w1": 0} and sum(answer.cached for answer in after) == 14
    health = up.get("/health")
    came = {name: count - before[name] for name, count in health["tally"].items()}
    assert came["arrived"] == came["finished"] == 11 and came["failed"] == came["retried"] == 0
    assert health["weights_version"] == new and health["held_calls"] == 0
    with urllib.request.urlopen(up.url + "/metrics", timeout=10) as answer:
        assert f"\nthunderctl_weights_version {new}.0\n" in answer.read().decode()


async def test_programs_that_go_on_through_many_updates_lose_nothing_and_mix_nothing(
    up: KillableNode, caller: Caller, client: DaemonClient, tmp_path: Path
) -> None:
    done = asyncio.Event()
    answers: list[Said] = []

    async def program(name: str, kind: int) -> int:
        steps = 0
        while not done.is_set():
            if kind == 0:
                answers.append(await caller.tokens(name, [kind] * 4, 4))
            elif kind == 1:
                answers.append(await caller.tokens(name, [kind] * 4, read_ids=False))
            else:
                answers.append(await caller.stream(name, count=5))
            steps += 1
        return steps

    before = up.get("/health")["tally"]
    first = (await next_version(client, tmp_path)).version
    agents = [asyncio.create_task(program(f"p{n}", n % 3)) for n in range(9)]
    for mode in ("finish", "keep", "restart", "finish", "keep", "restart"):
        await asyncio.sleep(0.3)
        await next_version(client, tmp_path, mode)
    done.set()
    steps = await asyncio.gather(*agents)
    assert min(steps) > 2 and len(answers) == sum(steps)
    for answer in answers:
        assert set(answer.ids) == {answer.version}, answer
    assert {answer.version for answer in answers} > {first, first + 3}
    tally = up.get("/health")["tally"]
    came = {name: count - before[name] for name, count in tally.items()}
    assert came["arrived"] == came["finished"] == len(answers)
    assert {row["state"] for row in up.get("/workers")} == {"up"}


async def test_one_of_two_workers_that_cannot_load_is_taken_out_and_comes_back_with_the_new_weights(
    up: KillableNode, caller: Caller, client: DaemonClient, tmp_path: Path
) -> None:
    folder = write_stub_weights(tmp_path / "new", 9)
    (folder / "fails-once").touch()
    before = {row["name"]: row["pid"] for row in up.get("/workers")}
    change = await update_weights(client, folder)
    assert len(change.failed) == 1
    (failed,) = change.failed
    assert "it does not fit" in change.failed[failed]
    # Nobody gets an answer of the old weights meanwhile.
    for n in range(4):
        assert set((await caller.tokens(f"failed-p{n}", [n])).ids) == {9}
    await asyncio.to_thread(until, lambda: {row["state"] for row in up.get("/workers")} == {"up"}, 30)
    now = {row["name"]: row["pid"] for row in up.get("/workers")}
    assert now[failed] != before[failed] and len(set(now.items()) & set(before.items())) == 1
    said = [await caller.tokens(f"failed-q{n}", [n]) for n in range(6)]
    assert {w.worker for w in said} == {"w0", "w1"} and {i for s in said for i in s.ids} == {9}


async def test_an_update_that_no_worker_can_load_leaves_the_old_version(node: KillableNode, tmp_path: Path) -> None:
    node.prepare(workers={**WORKERS, "count": 1})
    node.start()
    folder = write_stub_weights(tmp_path / "new", 9)
    (folder / "fails-once").touch()
    async with node.client() as client, aiohttp.ClientSession() as session:
        await update_weights(client, write_stub_weights(tmp_path / "old", 4))
        with pytest.raises(DaemonError, match="version 1 stays in force.*it does not fit"):
            await update_weights(client, folder)
        await asyncio.to_thread(until, lambda: {row["state"] for row in node.get("/workers")} == {"up"}, 30)
        said = await Caller(node, session).tokens("p", [1])
        assert (said.ids[0], said.version) == (4, 1)
        assert (await update_weights(client, folder)).version == 2
        assert (await Caller(node, session).tokens("p", [1])).ids[0] == 9
    assert node.process is not None
    node.process.terminate()
    node.process.wait(30)
    node.start()
    assert node.get(PATH)["version"] == 0  # workers that start anew begin with their own weights


async def test_what_cannot_be_an_update_changes_nothing_and_says_why(
    up: KillableNode, caller: Caller, client: DaemonClient, tmp_path: Path
) -> None:
    good = write_stub_weights(tmp_path / "good", 7)
    at = (await update_weights(client, good)).version
    other = write_stub_weights(tmp_path / "other", 8, t=[2])
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "model.safetensors").write_bytes((good / "model.safetensors").read_bytes()[:-1])
    (tmp_path / "empty").mkdir()
    for path, version, words in (
        (tmp_path / "none", None, "is no folder"),
        (tmp_path / "empty", None, "no \\*.safetensors"),
        (tmp_path / "cut", None, "no whole safetensors file"),
        (other, None, "t has shape \\(2,\\), not \\(1,\\)"),
        (write_stub_weights(tmp_path / "late", 8), at, f"not above {at}"),
    ):
        with pytest.raises(DaemonError, match=words):
            await update_weights(client, path, version=version)
    assert (await update_weights(client, good, version=at)).paused_s == 0  # it is there already
    for body in ({"state": "end"}, {"state": "abandon"}, {"path": "here"}, {"path": "/x", "state": "begin"}, {}):
        async with caller.session.post(up.url + PATH, json=body) as answer:
            assert answer.status == 403  # without the token
        with pytest.raises(DaemonError, match="40[09]"):
            await client._send("POST", PATH, body)
    assert (await caller.tokens("p", [1])).ids[0] == 7
    for path in ("/pause", "/resume", "/collective_rpc", "/reset_prefix_cache"):
        async with caller.session.post(up.url + path) as answer:
            assert answer.status in (404, 405)


async def test_a_transfer_of_ones_own_holds_calls_until_it_ends(
    up: KillableNode, caller: Caller, client: DaemonClient, tmp_path: Path
) -> None:
    new = int((await weights(client))["version"]) + 2
    async with weights_transfer(client, version=new) as workers:
        held = asyncio.create_task(caller.tokens("p", [1, 2]))
        await asyncio.to_thread(until, lambda: up.get(PATH)["calls_waiting"] == 1)
        assert up.get(PATH)["state"] == "transfer"
        with pytest.raises(DaemonError, match="under way"):
            await update_weights(client, write_stub_weights(tmp_path / "x", 1))
        folder = write_stub_weights(tmp_path / "new", new)
        await load_by_hand(caller.session, workers, folder)
        assert len(workers) == 2 and not held.done()
    said = await held
    assert (set(said.ids), said.version) == ({new}, new)
    assert (await weights(client))["state"] == "steady"
    with pytest.raises(ValueError, match="the trainer's own"):
        async with weights_transfer(client):
            raise ValueError("the trainer's own")
    assert (await update_weights(client, folder, version=new + 1)).failed == {}
    said = await caller.tokens("p", [1, 2])
    assert (set(said.ids), said.version) == ({new}, new + 1)


async def test_a_worker_that_started_during_a_transfer_is_given_calls_once_that_is_abandoned(
    up: KillableNode, caller: Caller, client: DaemonClient, tmp_path: Path
) -> None:
    version = (await next_version(client, tmp_path)).version
    with pytest.raises(ValueError, match="the trainer's own"):
        async with weights_transfer(client):
            psutil.Process(up.get("/workers")[1]["pid"]).kill()
            await asyncio.to_thread(until, lambda: up.get("/workers")[1]["state"] == "outdated", 30)
            raise ValueError("the trainer's own")
    assert [row["state"] for row in up.get("/workers")] == ["up", "up"]
    said = [await caller.tokens(f"abandoned{n}", [n]) for n in range(6)]
    assert {s.worker for s in said} == {"w0", "w1"} and {i for s in said for i in s.ids} == {version}


async def test_a_trainer_that_vanished_is_given_up_and_the_old_weights_are_loaded_again(
    node: KillableNode, tmp_path: Path
) -> None:
    node.prepare(workers={**WORKERS, "weight_update_timeout_s": 1.0})
    node.start()
    async with node.client() as client, aiohttp.ClientSession() as session:
        caller = Caller(node, session)
        await update_weights(client, write_stub_weights(tmp_path / "old", 4))
        half = write_stub_weights(tmp_path / "half", 11)
        begun, _, _ = await client._send("POST", PATH, {"state": "begin", "mode": "keep"})
        await load_by_hand(session, {"w1": begun["workers"]["w1"]}, half)
        said = await asyncio.gather(*(caller.tokens(f"p{n}", [n]) for n in range(6)))
        assert {s.version for s in said} == {1} and {i for s in said for i in s.ids} == {4}
        assert {s.worker for s in said} == {"w0", "w1"}
        with pytest.raises(DaemonError, match="no transfer is under way"):
            await client._send("POST", PATH, {"state": "end"})


async def test_a_worker_whose_weights_no_file_has_any_more_waits_for_the_next_update(
    up: KillableNode, caller: Caller, client: DaemonClient, tmp_path: Path
) -> None:
    folder = write_stub_weights(tmp_path / "now", 4)
    await update_weights(client, folder)
    write_stub_weights(folder, 5)  # the trainer's next version, in the same place
    victim = up.get("/workers")[0]
    psutil.Process(victim["pid"]).kill()
    await asyncio.to_thread(until, lambda: up.get("/workers")[0]["state"] == "outdated", 30)
    assert "has changed since" in (await weights(client))["workers"][0]["why_not"]
    up.kill()  # and the next daemon knows
    await asyncio.to_thread(up.start)
    assert [row["state"] for row in up.get("/workers")] == ["outdated", "up"]
    said = [await caller.tokens(f"p{n}", [n]) for n in range(4)]
    assert {s.worker for s in said} == {"w1"} and {i for s in said for i in s.ids} == {4}
    await update_weights(client, folder)
    said = [await caller.tokens(f"q{n}", [n]) for n in range(6)]
    assert {s.worker for s in said} == {"w0", "w1"} and {i for s in said for i in s.ids} == {5}


@pytest.mark.parametrize("moment", ["pausing", "loading", "transfer"])
async def test_a_daemon_killed_in_the_midst_of_a_change_leaves_one_version_and_no_worker_paused(
    up: KillableNode, tmp_path: Path, moment: str
) -> None:
    async with up.client() as client, aiohttp.ClientSession() as session:
        caller = Caller(up, session)
        old = (await next_version(client, tmp_path)).version
        folder = write_stub_weights(tmp_path / "new", old + 1)
        (folder / "slow").touch()
        calls = [asyncio.create_task(caller.tokens(f"{moment}{n}", [n])) for n in range(4)]
        await in_flight(up, 4)
        if moment == "transfer":
            change: asyncio.Task[Any] = asyncio.create_task(client._send("POST", PATH, {"state": "begin"}))
        else:
            change = asyncio.create_task(update_weights(client, folder, version=old + 1))
        await asyncio.to_thread(until, lambda: up.get(PATH)["state"] == moment)
        pids = [row["pid"] for row in up.get("/workers")]
        up.kill()
        change.cancel()
        await asyncio.gather(*calls, change, return_exceptions=True)
        await asyncio.to_thread(up.start)
    # What had not begun did not happen, what had is finished, and a trainer that transfers may go on.
    version = old if moment == "pausing" else old + 1
    async with up.client() as client, aiohttp.ClientSession() as session:
        caller = Caller(up, session)
        if moment == "transfer":
            held = asyncio.create_task(caller.tokens("held", [1]))
            await asyncio.to_thread(until, lambda: up.get(PATH)["calls_waiting"] == 1)
            await load_by_hand(session, {row["name"]: row["url"] for row in up.get("/workers")}, folder)
            await client._send("POST", PATH, {"state": "end", "version": version})
            assert (await held).ids == [version] * 6
        said = await asyncio.gather(*(caller.tokens(f"{moment}{n}", [n]) for n in range(6)))
        assert {s.version for s in said} == {i for s in said for i in s.ids} == {version}
        assert {s.worker for s in said} == {"w0", "w1"}
        assert [row["pid"] for row in up.get("/workers")] == pids
        assert up.get("/health")["weights_version"] == version and (await weights(client))["state"] == "steady"
        for row in up.get("/workers"):
            async with session.get(row["url"] + "/is_paused") as answer:
                assert await answer.json() == {"is_paused": False}


async def load_by_hand(session: aiohttp.ClientSession, workers: dict[str, str], folder: Path) -> None:
    """What a trainer's own transfer comes to."""
    for url in workers.values():
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        async with session.post(f"{url}/collective_rpc", json=body) as answer:
            assert answer.status == 200


async def test_a_node_that_was_not_asked_for_it_refuses(node: KillableNode, tmp_path: Path) -> None:
    node.prepare()
    node.start()
    async with node.client() as client:
        with pytest.raises(DaemonError, match="weight_updates: true"):
            await update_weights(client, write_stub_weights(tmp_path / "w", 1))
