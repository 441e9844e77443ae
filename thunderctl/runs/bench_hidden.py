"""How much of preparing environments agents wait for, with preparation ahead of need and without.

A real daemon, real containers with set-up commands that take seconds, and agents that wait for a place because the KV
cache is small. The model is a stub that answers after a while: what it says does not matter, how long it takes does.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from thunderctl import __version__
from thunderctl.agents.client import DaemonClient
from thunderctl.environments.backend import to_the_end
from thunderctl.environments.bench import Tell, remove_brought
from thunderctl.environments.docker import connect
from thunderctl.environments.images import BASE, Images
from thunderctl.launcher import bring_up, forget, take_down
from thunderctl.profile import Profile
from thunderctl.profile_files import ResolvedProfile

TOKENS = 2000
"""Context of every program, from its first call on."""
WORD = "word "
STEPS = 6
QUEUED_S = 0.5
"""A program whose first call was held for longer has queued for its place."""
TOOL_S = 0.5
ANSWER_TOKENS = 50
MODEL = "stub"


@dataclass(frozen=True, slots=True)
class HiddenWork:
    """Agents that all begin at once; each has one program."""

    agents: int = 8
    ahead: int | None = 8
    """``environments.prepare_ahead``. 0: an environment is prepared as soon as its program has a place. ``None``: each
    agent asks for its environment first, and waits until it is ready before it calls the model."""
    setup_s: float = 3.0
    """What the set-up command of each environment sleeps."""
    model_s: float = 2.0
    """One model call, on average; drawn anew for each, from half to one and a half of it."""
    places: int = 6
    """Programs whose contexts fit into the KV cache."""


@dataclass(frozen=True, slots=True)
class Agent:
    """What one agent saw, in seconds."""

    prepared_s: float
    waited_s: float
    first_result_s: float
    held_s: float = 0.0
    """How long it waited for its place."""


def arm_name(ahead: int | None) -> str:
    if ahead is None:
        return "asked for and waited for"
    return f"ahead of need, {ahead}" if ahead else "with the place"


def told(work: HiddenWork, agents: Sequence[Agent]) -> dict[str, Any]:
    """The figures of one arm. ``hidden`` is the share of preparation that no agent waited for; where agents queue for
    a slot to prepare in, they wait longer than preparing takes, and it is below 0."""
    queued = [agent for agent in agents if agent.held_s > QUEUED_S]
    return {
        "agents": work.agents,
        "arm": arm_name(work.ahead),
        "prepared_s": sum(agent.prepared_s for agent in agents),
        "waited_s": sum(agent.waited_s for agent in agents),
        "hidden": _hidden(agents),
        "queued": len(queued),
        "hidden_of_queued": _hidden(queued),
        "median_first_result_s": statistics.median(agent.first_result_s for agent in agents),
    }


def _hidden(agents: Sequence[Agent]) -> float | None:
    prepared = sum(agent.prepared_s for agent in agents)
    return 1 - sum(agent.waited_s for agent in agents) / prepared if prepared else None


def measure_hidden(works: Sequence[HiddenWork], tell: Tell) -> dict[str, Any]:
    """One arm after the other, a fresh node for each."""
    arms = []
    for work in works:
        arms.append(told(work, asyncio.run(_arm(work, tell))))
    said = {"setup_s": works[0].setup_s, "model_s": works[0].model_s, "places": works[0].places} if works else {}
    return {"schema": 1, "part": "hidden", "thunderctl": __version__, **said, "arms": arms}


async def _arm(work: HiddenWork, tell: Tell) -> list[Agent]:
    name = f"bench-{secrets.token_hex(4)}"
    client = connect()
    try:
        await asyncio.to_thread(Images(client).ensure, BASE, tell)
    finally:
        client.close()
    async with stub_worker(work) as url, _node(name, work, url, tell) as daemon:
        began = time.monotonic()
        tell(f"{work.agents} agents, environments {arm_name(work.ahead)}")
        dice = random.Random(0)  # noqa: S311 - a workload, no secret
        agents = [_agent(daemon, f"{name}-{n}", name, work, began, dice.random()) for n in range(work.agents)]
        return await asyncio.gather(*agents)


async def _agent(
    client: DaemonClient, program: str, run: str, work: HiddenWork, began: float, jitter_s: float
) -> Agent:
    await asyncio.sleep(jitter_s)
    # Each its own command, or the engine would start from what the first one left.
    setup = [f"sleep {work.setup_s:g}; echo {program} > /tmp/set-up"]
    asked = time.monotonic()
    lease = await client.environment(program, run, setup=setup, wait=work.ahead is None)
    waited = time.monotonic() - asked if work.ahead is None else 0.0
    prepared = first = held = 0.0
    messages = [{"role": "user", "content": WORD * TOKENS}]
    for step in range(STEPS):
        answer = await client.chat(program, messages, max_tokens=ANSWER_TOKENS)
        messages.append({"role": "assistant", "content": answer.content})
        result = await client.execute(lease, f"sleep {TOOL_S:g}")
        messages.append({"role": "user", "content": result.output or "done"})
        waited += result.waited_s
        if step == 0:
            prepared, first = result.prepared_s, time.monotonic() - began - jitter_s
            held = answer.held_s
    await client.release(program)
    return Agent(prepared, waited, first, held)


@contextlib.asynccontextmanager
async def _node(name: str, work: HiddenWork, url: str, tell: Tell) -> AsyncIterator[DaemonClient]:
    profile = Profile.model_validate(
        {
            "name": "bench",
            "engine": {"kind": "external"},
            "workers": {"urls": [url]},
            "environments": {"backend": "docker", "prepare_ahead": work.ahead or 0},
        }
    )
    resolved = ResolvedProfile(profile, {}, "bench")
    try:
        handle = await to_the_end(asyncio.to_thread(bring_up, resolved, name=name, progress=tell, ends_with_me=True))
        client = handle.client()
        client.model = MODEL
        async with client:
            yield client
    finally:
        await to_the_end(asyncio.to_thread(_away, name, tell))


def _away(name: str, tell: Tell) -> None:
    take_down(name, progress=tell)
    remove_brought(name)
    forget(name)


# ------------------------------------------------------------------ the model


@contextlib.asynccontextmanager
async def stub_worker(work: HiddenWork) -> AsyncIterator[str]:
    """A server that looks like vLLM as far as the daemon asks; its URL. KV for ``places`` programs, and a block."""
    dice = random.Random(1)  # noqa: S311 - a workload, no secret
    capacity = work.places * (TOKENS + 500)

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(text=f'vllm:cache_config_info{{block_size="16",kv_cache_size_tokens="{capacity}"}} 1.0\n')

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": MODEL, "max_model_len": capacity}]})

    async def health(request: web.Request) -> web.Response:
        return web.json_response({})

    async def complete(request: web.Request) -> web.Response:  # the daemon measures how fast a prompt is read
        await asyncio.sleep(0.1)
        return web.json_response({"choices": [{"text": "word"}], "usage": _usage(1, 1)})

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(work.model_s * dice.uniform(0.5, 1.5))
        words = sum(len(message["content"].split()) for message in body["messages"])
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": WORD * ANSWER_TOKENS},
            "finish_reason": "stop",
        }
        return web.json_response({"choices": [choice], "usage": _usage(words, ANSWER_TOKENS)})

    app = web.Application(client_max_size=2**26)
    app.add_routes(
        [
            web.get("/metrics", metrics),
            web.get("/v1/models", models),
            web.get("/health", health),
            web.post("/v1/completions", complete),
            web.post("/v1/chat/completions", chat),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _usage(prompt: int, output: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
