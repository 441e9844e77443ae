"""The gateway between real sockets: a client, our door, and upstreams that behave well or badly on purpose.

The upstreams are stubs because the point is what happens when a worker misbehaves, which a real one does not do on
demand; answers of a real engine are tested where the engine runs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import CIMultiDictProxy

from thunderctl.core import events as ev
from thunderctl.core.policies import make_policy
from thunderctl.core.program import Phase
from thunderctl.core.scheduler import Scheduler
from thunderctl.daemon.gateway import Gateway
from thunderctl.daemon.shell import Shell
from thunderctl.daemon.upstream import Upstreams
from thunderctl.profile import GatewaySpec

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def usage(prompt: int = 100, cached: int = 60, output: int = 5) -> dict[str, object]:
    details = {"cached_tokens": cached}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": details,
    }


@dataclass
class Stub:
    """An upstream whose behaviour a test chooses; remembers what it was sent."""

    bodies: list[bytes] = field(default_factory=list)
    headers: list[CIMultiDictProxy[str]] = field(default_factory=list)
    aborted: int = 0
    behaviour: Handler | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        self.headers.append(request.headers)
        try:
            assert self.behaviour is not None
            return await self.behaviour(request)
        except asyncio.CancelledError:
            self.aborted += 1
            raise


async def answer_plainly(request: web.Request) -> web.Response:
    return web.Response(
        body=b'{"id": "x",   "choices": [], "usage": ' + json.dumps(usage()).encode() + b"}",
        content_type="application/json",
    )


def stream_of(*events: bytes, cut: bool = False, pause_s: float = 0.0) -> Handler:
    async def behave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for event in events:
            await response.write(event)
            await asyncio.sleep(pause_s)
        if cut:
            assert request.transport is not None
            request.transport.close()
        return response

    return behave


@dataclass
class Door:
    url: str
    shell: Shell
    stub: Stub
    upstreams: Upstreams
    client: aiohttp.ClientSession

    async def post(self, body: object, path: str = "/v1/chat/completions", **headers: str) -> aiohttp.ClientResponse:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(self.url + path, data=data, headers=headers)

    def program(self, name: str = "p") -> object:
        return self.shell.scheduler.programs[name]


@asynccontextmanager
async def a_door(policy: str = "thunder", capacity: int = 1000, **spec: object) -> AsyncIterator[Door]:
    stub = Stub(behaviour=answer_plainly)
    worker = web.Application()
    worker.router.add_route("*", "/{rest:.*}", stub.handle)
    upstream_server = TestServer(worker, handler_cancellation=True)
    await upstream_server.start_server()
    settings = GatewaySpec(**spec)  # type: ignore[arg-type]
    shell = Shell(Scheduler(make_policy(policy)), None)
    upstreams = Upstreams(settings)
    upstreams.add("w0", str(upstream_server.make_url("")).rstrip("/"))
    shell.submit(ev.WorkerUp("w0", capacity, 1000.0))
    app = web.Application(client_max_size=2**26)
    app.add_routes(Gateway(settings, shell, upstreams, own_key=False).routes())
    server = TestServer(app, handler_cancellation=True)
    await server.start_server()
    async with aiohttp.ClientSession() as client:
        yield Door(str(server.make_url("")).rstrip("/"), shell, stub, upstreams, client)
    shell.scheduler.check()
    shell.close()
    await server.close()
    await upstreams.close()
    await upstream_server.close()


async def until(true: Callable[[], bool]) -> None:
    for _ in range(400):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never happened")


async def test_an_answer_passes_byte_for_byte_and_its_usage_reaches_the_scheduler() -> None:
    async with a_door() as door:
        answer = await door.post({"program_id": "p", "messages": []})
        assert (await answer.read()).startswith(b'{"id": "x",   "choices"')
        assert answer.headers["X-Thunderctl-Worker"] == "w0"
        program = door.shell.scheduler.programs["p"]
        assert (program.context_tokens, program.phase, program.steps) == (105, Phase.ACTING, 1)
        assert door.shell.tally.cached_tokens == 60
        assert door.stub.bodies == [b'{"program_id": "p", "messages": []}']


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"program_id": "p"}, {}),
        ({"extra_body": {"program_id": "p"}}, {}),
        ({}, {"X-Program-Id": "p"}),
        ({}, {"X-Session-ID": "p"}),
        ({"vllm_xargs": {"agentic_context": {"program_id": "p"}}}, {}),
        ({"program_id": "p", "extra_body": {"program_id": "other"}}, {"X-Program-Id": "another"}),
    ],
)
async def test_a_program_is_known_by_any_of_its_names_the_first_match_wins(
    body: dict[str, object], headers: dict[str, str]
) -> None:
    async with a_door() as door:
        assert (await door.post(body, **headers)).status == 200
        assert list(door.shell.scheduler.programs) == ["p"]


async def test_requests_without_a_program_pass_by_the_scheduler_and_are_counted_apart() -> None:
    async with a_door() as door:
        assert (await door.post({"messages": []})).status == 200
        assert not door.shell.scheduler.programs
        assert door.shell.tally.unscheduled == 1


@pytest.mark.parametrize("body", [b"[1, 2]", b"not json", b'{"program_id": {"a": 1}}', b""])
async def test_a_body_that_is_no_request_gets_a_400_and_leaves_no_program(body: bytes) -> None:
    async with a_door() as door:
        answer = await door.post(body)
        assert answer.status == 400
        assert "error" in await answer.json()
        assert not door.shell.scheduler.programs and not door.stub.bodies


async def test_authorization_and_request_id_reach_the_worker() -> None:
    async with a_door() as door:
        await door.post({"program_id": "p"}, **{"Authorization": "Bearer abc", "X-Request-Id": "r1"})
        assert door.stub.headers[0]["Authorization"] == "Bearer abc"
        assert door.stub.headers[0]["X-Request-Id"] == "r1"


TEXT = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":' + json.dumps(usage()).encode() + b"}\n\n"
DONE = b"data: [DONE]\n\n"


async def test_a_stream_is_counted_even_if_the_client_did_not_ask_and_then_it_sees_no_usage() -> None:
    async with a_door() as door:
        door.stub.behaviour = stream_of(TEXT, TEXT, USAGE, DONE)
        answer = await door.post({"program_id": "p", "stream": True})
        assert await answer.read() == TEXT + TEXT + DONE
        assert json.loads(door.stub.bodies[0])["stream_options"] == {"include_usage": True}
        assert door.shell.scheduler.programs["p"].context_tokens == 105


async def test_a_client_that_asks_for_usage_in_its_stream_gets_every_byte() -> None:
    async with a_door() as door:
        door.stub.behaviour = stream_of(TEXT + USAGE[:30], USAGE[30:], DONE)
        answer = await door.post({"program_id": "p", "stream": True, "stream_options": {"include_usage": True}})
        assert await answer.read() == TEXT + USAGE + DONE


async def test_other_stream_options_of_the_client_are_kept() -> None:
    async with a_door() as door:
        door.stub.behaviour = stream_of(TEXT, USAGE, DONE)
        await (
            await door.post({"program_id": "p", "stream": True, "stream_options": {"continuous_usage_stats": False}})
        ).read()
        assert json.loads(door.stub.bodies[0])["stream_options"] == {
            "continuous_usage_stats": False,
            "include_usage": True,
        }


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_an_error_of_the_worker_reaches_the_client_and_the_program_rests(path: str) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "too long"}}, status=400)

    async with a_door() as door:
        door.stub.behaviour = refuse
        answer = await door.post({"program_id": "p"}, path)
        assert (answer.status, (await answer.json())["error"]["message"]) == (400, "too long")
        assert door.shell.scheduler.programs["p"].phase is Phase.ACTING
        assert door.shell.tally.failed == 1


@pytest.mark.parametrize("ending", ["cut", "without usage"])
async def test_a_stream_that_breaks_off_or_names_no_usage_leaves_the_program_resting(ending: str) -> None:
    async with a_door() as door:
        door.stub.behaviour = stream_of(TEXT, cut=ending == "cut")
        answer = await door.post({"program_id": "p", "stream": True})
        if ending == "cut":
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
        else:
            await answer.read()
        await until(lambda: door.shell.scheduler.programs["p"].phase is Phase.ACTING)
        assert door.shell.tally.failed + door.shell.tally.cancelled == 1


async def test_a_client_that_goes_away_aborts_its_call_upstream_and_frees_its_tokens() -> None:
    async with a_door() as door:
        door.stub.behaviour = stream_of(*[TEXT] * 1000, pause_s=0.02)
        answer = await door.post({"program_id": "p", "stream": True})
        await answer.content.readany()
        answer.close()
        await until(lambda: door.stub.aborted == 1)
        await until(lambda: not door.shell.scheduler.calls)
        assert door.shell.scheduler.workers["w0"].reasoning == 0


async def test_a_client_that_goes_away_while_held_is_never_sent_upstream() -> None:
    async with a_door(capacity=100) as door:
        door.stub.behaviour = stream_of(TEXT, USAGE, DONE, pause_s=0.2)
        first = asyncio.create_task(door.post({"program_id": "a", "stream": True, "pad": "x" * 250}))
        await until(lambda: len(door.stub.bodies) == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(door.post({"program_id": "b", "pad": "x" * 250}), 0.1)
        await until(lambda: door.shell.tally.cancelled == 1)
        await (await first).read()
        assert len(door.stub.bodies) == 1
        assert door.shell.scheduler.programs["b"].phase is Phase.ACTING


async def test_a_call_is_sent_again_if_the_worker_hung_up_before_the_first_byte() -> None:
    tries = 0

    async def hang_up_once(request: web.Request) -> web.StreamResponse:
        nonlocal tries
        tries += 1
        if tries == 1:
            assert request.transport is not None
            request.transport.close()
        return await answer_plainly(request)

    async with a_door() as door:
        door.stub.behaviour = hang_up_once
        answer = await door.post({"program_id": "p"})
        assert answer.status == 200 and tries == 2
        assert (door.shell.tally.retried, door.shell.tally.finished) == (1, 1)


async def test_a_worker_that_never_answers_costs_its_retries_and_then_a_502() -> None:
    async with a_door(retries=1) as door:
        await door.upstreams.remove("w0")
        door.upstreams.add("w0", "http://127.0.0.1:9")
        answer = await door.post({"program_id": "p"})
        assert answer.status == 502
        assert door.shell.scheduler.programs["p"].phase is Phase.ACTING
        assert door.shell.tally.failed == 1


async def test_without_a_worker_calls_are_told_when_to_come_back() -> None:
    async with a_door() as door:
        door.shell.submit(ev.WorkerLost("w0"))
        answer = await door.post({"program_id": "p"})
        assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1


async def test_releasing_a_program_answers_its_held_call_and_sends_nothing() -> None:
    async with a_door(capacity=100) as door:
        door.stub.behaviour = stream_of(TEXT, USAGE, DONE, pause_s=0.2)
        first = asyncio.create_task(door.post({"program_id": "a", "stream": True, "pad": "x" * 250}))
        await until(lambda: len(door.stub.bodies) == 1)
        held = asyncio.create_task(door.post({"program_id": "b", "pad": "x" * 250}))
        await until(lambda: "b" in door.shell.scheduler.programs)
        door.shell.submit(ev.ProgramReleased("b"))
        assert (await held).status == 409
        await (await first).read()
        assert len(door.stub.bodies) == 1


async def test_two_hundred_calls_at_once_each_have_exactly_one_outcome() -> None:
    async with a_door(capacity=400) as door:

        async def one(n: int) -> int:
            answer = await door.post({"program_id": f"p{n % 50}", "pad": "x" * n})
            return answer.status

        outcomes = await asyncio.gather(*(one(n) for n in range(200)))
        assert outcomes == [200] * 200
        assert door.shell.tally.finished == 200 and not door.shell.scheduler.calls
