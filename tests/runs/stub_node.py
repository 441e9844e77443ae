"""A node for tests of those who drive it: the real gateway and scheduler before an engine that only counts tokens.

The engine keeps a prefix cache by blocks, answers as scripted, and can be told to misbehave. Samples, disk and
environments are the least that a driver asks of a daemon.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from thunderctl.agents.client import DaemonClient
from thunderctl.agents.coding import FINISH_MARKER
from thunderctl.core import events as ev
from thunderctl.core.policies import make_policy
from thunderctl.core.scheduler import Scheduler
from thunderctl.daemon.door import Door
from thunderctl.daemon.gateway import Gateway
from thunderctl.daemon.shell import Shell
from thunderctl.daemon.upstream import Upstreams
from thunderctl.profile import GatewaySpec

BLOCK = 16


START = {"system": 256, "user": 257, "assistant": 258, "tool": 259}
END, LINE = 260, 10
"""Ids beyond the bytes: a message begins with its role, and ends with these two."""


def rendered(messages: list[dict[str, Any]], *, answering: bool) -> list[int]:
    """The chat template of the engine that stands for vLLM; a token is a byte."""
    ids = [[START[m["role"]], *(m.get("content") or "").encode(), END, LINE] for m in messages]
    return [*itertools.chain(*ids), *([START["assistant"]] if answering else [])]


@dataclass
class Engine:
    """What stands for vLLM. ``missing``: tokens that it leaves out of each answer. ``delay_s``: of each answer;
    ``slow`` says more of it by what is asked. ``refused``: so many calls fail that begin from now on."""

    missing: int = 0
    delay_s: float = 0.0
    slow: Callable[[dict[str, Any]], float] = lambda body: 0.0
    refused: int = 0
    calls: list[dict[str, Any]] = field(default_factory=list)
    cached: set[int] = field(default_factory=set)

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        if request.path == "/tokenize":
            return web.json_response({"tokens": rendered(body["messages"], answering=body["add_generation_prompt"])})
        self.calls.append(body)
        if self.refused:
            self.refused -= 1
            return web.json_response({"error": {"message": "not today"}}, status=400)
        await asyncio.sleep(self.delay_s + self.slow(body))
        replay = body["vllm_xargs"]["replay"]
        choice: dict[str, Any]
        if isinstance(replay, str) and "prompt" in body:
            output, prompt = [*replay.encode(), END], body["prompt"]
            choice = {"text": replay, "finish_reason": "stop"}
        elif "messages" in body:
            choice = {"message": {"content": replay}, "finish_reason": "stop"}
            prompt, output = list(json.dumps(body["messages"]).encode()), list(replay.encode())
        else:
            choice = {"text": "", "finish_reason": "length"}
            prompt, output = body["prompt"], replay[: len(replay) - self.missing]
        if body.get("return_token_ids"):
            choice |= {"token_ids": output, "prompt_token_ids": prompt}
            choice["logprobs"] = {"token_logprobs": [-0.5] * len(output)}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(output)}
        details = {"cached_tokens": self._look_up(prompt)}
        self._keep([*prompt, *output[:-1]])
        return web.json_response({"choices": [choice], "usage": {**usage, "prompt_tokens_details": details}})

    def _look_up(self, ids: list[int]) -> int:
        found = 0
        while found + BLOCK < len(ids) and hash(tuple(ids[: found + BLOCK])) in self.cached:
            found += BLOCK
        return found

    def _keep(self, ids: list[int]) -> None:
        self.cached |= {hash(tuple(ids[:end])) for end in range(BLOCK, len(ids) + 1, BLOCK)}


@dataclass
class StubNode:
    url: str
    engine: Engine
    shell: Shell
    tools: list[tuple[str, str]]
    """What agents told of their tools, in order."""
    released: list[str]
    warm: list[tuple[str, str | None, int]]
    """(run, image, count) of what was to be kept ready."""
    over: list[str]
    """Runs that are over."""
    announced: list[str] = field(default_factory=list)
    """Programs that asked for an environment, in order."""
    commands: list[tuple[str, str]] = field(default_factory=list)
    """(lease, command) in the order they came; a lease is called like its program, ``/`` → ``:``."""
    version: int = 0
    """Of the weights, as the node tells it."""

    def client(self) -> DaemonClient:
        return DaemonClient(self.url, model="small")


class _Control:
    def __init__(self, node: StubNode) -> None:
        self._node = node
        self._samples: list[dict[str, Any]] = []

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/decisions", self.decisions),
            web.get("/samples", self.samples),
            web.get("/disk", self.disk),
            web.get("/health", self.health),
            web.post("/programs/release", self.release),
            web.post("/programs/tool", self.tool),
            web.post("/environments", self.environment),
            web.post("/environments/{lease}/exec", self.execute),
            web.put("/environments/{lease}/files", self.files),
            web.get("/v1/rollout/weights", self.weights),
            web.post("/environments/warm", self.warm),
            web.post("/runs/over", self.over),
        ]

    async def decisions(self, request: web.Request) -> web.Response:
        return web.json_response(self._node.shell.decisions.since(int(request.query["since"])))

    async def samples(self, request: web.Request) -> web.Response:
        if "now" in request.query:
            ledger = self._node.shell.scheduler.workers["w0"]
            self._samples.append(
                {
                    "n": len(self._samples) + 1, "at": time.time(), "worker": "w0",
                    "engine": {"prefix_hits": 0, "prefix_queries": 0}, "reasoning_tokens": ledger.reasoning,
                    "acting_tokens": ledger.acting, "capacity_tokens": ledger.capacity, "cost": ledger.cost.as_dict(),
                }
            )  # fmt: skip
        return web.json_response([s for s in self._samples if s["n"] > int(request.query["since"])])

    async def disk(self, request: web.Request) -> web.Response:
        return web.json_response({"bytes_now": 0, "by_kind": {}})

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def release(self, request: web.Request) -> web.Response:
        program = (await request.json())["program_id"]
        self._node.released.append(program)
        self._node.shell.submit(ev.ProgramReleased(program))
        return web.json_response({})

    async def tool(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._node.tools.append((body["program_id"], body["state"]))
        return web.json_response({})

    async def environment(self, request: web.Request) -> web.Response:
        program = (await request.json())["program"]
        self._node.announced.append(program)
        return web.json_response({"id": program.replace("/", ":"), "prepared_s": 0.5})

    async def warm(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._node.warm.append((body["run"], body["image"], body["count"]))
        return web.json_response({})

    async def over(self, request: web.Request) -> web.Response:
        self._node.over.append((await request.json())["run"])
        return web.json_response({})

    async def files(self, request: web.Request) -> web.Response:
        return web.json_response({})

    async def weights(self, request: web.Request) -> web.Response:
        return web.json_response({"version": self._node.version})

    async def execute(self, request: web.Request) -> web.Response:
        command = (await request.json())["command"]
        self._node.commands.append((request.match_info["lease"], command))
        output = f"{FINISH_MARKER}\na patch" if FINISH_MARKER in command else "done"
        said = {"output": output, "returncode": 0, "duration_s": 0.0, "timed_out": False, "truncated_bytes": 0}
        said |= {"waited_s": 0.25, "prepared_s": 0.5}
        return web.json_response(said)


@asynccontextmanager
async def a_stub_node(policy: str = "thunder", capacity: int = 100_000) -> AsyncIterator[StubNode]:
    engine = Engine()
    worker = web.Application(client_max_size=2**26)
    worker.router.add_post("/{rest:.*}", engine.answer)
    upstream = TestServer(worker, handler_cancellation=True)
    await upstream.start_server()
    settings = GatewaySpec()
    shell = Shell(Scheduler(make_policy(policy)), None)
    upstreams = Upstreams(settings)
    upstreams.add("w0", str(upstream.make_url("")).rstrip("/"))
    shell.submit(ev.WorkerUp("w0", capacity, 1000.0))
    node = StubNode("", engine, shell, [], [], [], [])
    app = web.Application(client_max_size=2**26)
    app.add_routes(_Control(node).routes())
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    assert runner.server is not None
    gateway = Gateway(settings, shell, upstreams, own_key=False)
    door = Door(gateway.handlers(), runner.server, max_body=2**26)
    node.url = "http://{}:{}".format(*await door.listen("127.0.0.1", 0))
    yield node
    shell.scheduler.check()
    shell.close()
    await door.close(1)
    await runner.cleanup()
    await upstreams.close()
    await upstream.close()
