"""A node for tests of heavy coding agents: an engine with scripted or forced answers, and commands that really run.

It stands for the daemon's HTTP API as far as these agents use it. Calls are taken out of answers as the engine's
Hermes parser does it, unless ``parses`` says that this engine has none.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.agents.token_engine import TokenEngine
from thunderctl.agents.client import DaemonClient, Lease
from thunderctl.agents.coding_tools import CodingToolsAgent
from thunderctl.agents.desk import Desk
from thunderctl.agents.rollout import Rollout
from thunderctl.agents.tokens import Transcript
from thunderctl.workload.coding import CodingTask
from thunderctl.workload.coding_tools import CodingToolsWorkload

LEASE = Lease("e1", 0.0)
_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def repository(folder: Path, files: dict[str, str]) -> Path:
    """A git checkout with one commit."""
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    for line in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "as given"]):
        subprocess.run(["git", *line], cwd=folder, check=True)


def call(name: str, said: str = "Next.", **arguments: Any) -> str:
    """An answer with a tool call, as recorded ones have it."""
    return f"{said}\n<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


@dataclass
class ToolNode:
    """``answers``: what the engine says where nothing is forced, in order."""

    folder: Path
    """Commands run in ``folder/testbed``, which an environment with files makes anew."""
    answers: list[str] = field(default_factory=list)
    parses: bool = True
    requests: list[dict[str, Any]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    """Processes of commands that have not ended."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    transcript: Transcript | None = None
    """Of the agent that ran last."""
    client: DaemonClient = field(init=False)

    @property
    def testbed(self) -> Path:
        return self.folder / "testbed"

    async def run(
        self,
        workload: CodingToolsWorkload,
        task: CodingTask,
        kind: str = "live",
        group: str | None = None,
        **how: Any,
    ) -> Rollout:
        """One agent from start to end, judged. ``how``: more of its desk."""
        clock = itertools.count().__next__
        desk = Desk(self.client, "run-1", lambda: float(clock()), lambda _rollout, step: self.steps.append(step), **how)
        rollout = Rollout("agent-000", "run-1/agent-000", task.instance_id, kind, group=group)
        agent = CodingToolsAgent(desk, workload, task, rollout)
        self.transcript = agent.transcript
        await agent.run()
        await agent.judge()
        return rollout

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        said = body.get("vllm_xargs", {}).get("replay") or self.answers.pop(0)
        message: dict[str, Any] = {"role": "assistant", "content": said}
        found = _CALL.findall(said)
        if found and self.parses:
            message["content"] = said.partition("<tool_call>")[0] or None
            message["tool_calls"] = [
                {
                    "id": f"call-{len(self.requests)}-{number}",
                    "type": "function",
                    "function": {"name": each["name"], "arguments": json.dumps(each["arguments"], ensure_ascii=False)},
                }
                for number, each in enumerate(json.loads(text) for text in found)
            ]
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})

    async def execute(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.commands.append(body["command"])
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", body["command"], cwd=self.testbed, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        self.running.add(process.pid)
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            self.running.discard(process.pid)
        said = {"output": output.decode(), "returncode": process.returncode, "duration_s": 0.1, "timed_out": False}
        return web.json_response({**said, "truncated_bytes": 0, "waited_s": 0.25, "prepared_s": 0.5})

    async def environment(self, request: web.Request) -> web.Response:
        files = (await request.json())["files"]
        if files is not None:
            shutil.rmtree(self.testbed, ignore_errors=True)
            shutil.copytree(files, self.testbed)
            commit(self.testbed)
        return web.json_response({"id": "e1", "prepared_s": 0.0})

    async def put(self, request: web.Request) -> web.Response:
        for name, data in (await request.json())["files"].items():
            (self.testbed / name).parent.mkdir(parents=True, exist_ok=True)
            (self.testbed / name).write_bytes(base64.b64decode(data))
        return web.json_response({})

    async def release(self, request: web.Request) -> web.Response:
        return web.json_response({})


@asynccontextmanager
async def tool_node(
    folder: Path, *answers: str, parses: bool = True, engine: TokenEngine | None = None
) -> AsyncIterator[ToolNode]:
    """A node that listens while the context lasts. ``engine``: answers calls in token ids."""
    node = ToolNode(folder, list(answers), parses)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", node.chat)
    app.router.add_post("/environments", node.environment)
    app.router.add_post("/environments/e1/exec", node.execute)
    app.router.add_put("/environments/e1/files", node.put)
    app.router.add_post("/programs/release", node.release)
    if engine is not None:
        app.add_routes(engine.routes())
    server = TestServer(app)
    await server.start_server()
    try:
        async with DaemonClient(str(server.make_url("")), model="small") as node.client:
            yield node
    finally:
        await server.close()
