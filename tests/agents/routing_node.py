"""A node for tests of routing agents: an engine that gives scripted or forced answers, and commands that really run.

It stands for the daemon's HTTP API as far as these agents use it. The same server plays an external model.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.agents.token_engine import TokenEngine
from thunderctl.agents.client import DaemonClient
from thunderctl.agents.desk import Desk
from thunderctl.agents.rollout import Rollout
from thunderctl.agents.routing import RoutingAgent
from thunderctl.agents.tokens import Transcript
from thunderctl.workload.routing import RoutingTask, RoutingWorkload


@dataclass
class RoutingNode:
    """``answers``: what the engine says where nothing is forced, in order. ``external``: what the external model says;
    a number is a refusal with this status."""

    folder: Path
    answers: list[str] = field(default_factory=list)
    external: list[str | int] = field(default_factory=list)
    url: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    external_calls: list[tuple[dict[str, Any], dict[str, str]]] = field(default_factory=list)
    tools: list[tuple[str, str]] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    transcript: Transcript | None = None
    """Of the agent that ran last."""
    at_once: int = 0
    most_at_once: int = 0

    async def run(self, workload: RoutingWorkload, task: RoutingTask, kind: str = "live", place: int = 0) -> Rollout:
        """One agent from start to end, judged."""
        async with DaemonClient(self.url, token="daemon-token", model="small") as client:
            return await self.run_with(client, workload, task, kind, place)

    async def run_with(
        self,
        client: DaemonClient,
        workload: RoutingWorkload,
        task: RoutingTask,
        kind: str = "live",
        place: int = 0,
        **how: Any,
    ) -> Rollout:
        """``how``: more of the agent's desk."""
        clock = itertools.count().__next__
        desk = Desk(client, "run-1", lambda: float(clock()), lambda _rollout, step: self.steps.append(step), **how)
        rollout = Rollout(f"agent-{place:03d}", f"run-1/agent-{place:03d}", task.instance_id, kind)
        agent = RoutingAgent(desk, workload, task, rollout)
        self.transcript = agent.transcript
        await agent.run()
        await agent.judge()
        return rollout

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.calls.append(body)
        forced = body.get("vllm_xargs", {}).get("replay")
        return web.json_response(_said(body, self.answers.pop(0) if forced is None else forced))

    async def other(self, request: web.Request) -> web.Response:
        self.external_calls.append((await request.json(), dict(request.headers)))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.01)
        self.at_once -= 1
        said = self.external.pop(0)
        if isinstance(said, int):
            return web.Response(status=said, headers={"Retry-After": "0.01"})
        return web.json_response(_said(self.external_calls[-1][0], said))

    async def execute(self, request: web.Request) -> web.Response:
        command = (await request.json())["command"]
        process = await asyncio.create_subprocess_shell(
            command, cwd=self.folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        said = {"output": output.decode(), "returncode": process.returncode, "duration_s": 0.1, "timed_out": False}
        return web.json_response({**said, "truncated_bytes": 0, "waited_s": 0.0, "prepared_s": 0.0})

    async def environment(self, request: web.Request) -> web.Response:
        return web.json_response({"id": "e1", "prepared_s": 0.0})

    async def tool(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.tools.append((body["state"], body["tool"]))
        return web.json_response({})

    async def release(self, request: web.Request) -> web.Response:
        self.released.append((await request.json())["program_id"])
        return web.json_response({})


def _said(body: dict[str, Any], content: str) -> dict[str, Any]:
    usage = {"prompt_tokens": len(str(body["messages"])), "completion_tokens": len(content)}
    return {"choices": [{"message": {"content": content}, "finish_reason": "stop"}], "usage": usage}


@asynccontextmanager
async def a_routing_node(folder: Path, engine: TokenEngine | None = None) -> AsyncIterator[RoutingNode]:
    """``engine``: answers calls in token ids."""
    node = RoutingNode(folder)
    app = web.Application(client_max_size=2**24)
    app.add_routes(
        [
            web.post("/v1/chat/completions", node.chat),
            web.post("/external/v1/chat/completions", node.other),
            web.post("/environments", node.environment),
            web.post("/environments/{lease}/exec", node.execute),
            web.post("/programs/tool", node.tool),
            web.post("/programs/release", node.release),
        ]
    )
    if engine is not None:
        app.add_routes(engine.routes())
    server = TestServer(app)
    await server.start_server()
    node.url = str(server.make_url("")).rstrip("/")
    try:
        yield node
    finally:
        await server.close()
