"""The gateway between real sockets: a client, our door, and upstreams that behave well or badly on purpose.

The upstreams are stubs because the point is what happens when a worker misbehaves, which a real one does not do on
demand; answers of a real engine are tested where the engine runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
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
from thunderctl.daemon.door import Door as Server
from thunderctl.daemon.gateway import Gateway
from thunderctl.daemon.identity import parse_body
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
    gateway: Gateway
    stub_url: str

    async def post(self, body: object, path: str = "/v1/chat/completions", **headers: str) -> aiohttp.ClientResponse:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(self.url + path, data=data, headers=headers)

    def program(self, name: str = "p") -> object:
        return self.shell.scheduler.programs[name]


class Settings(GatewaySpec):
    max_held: int = 65_536


@asynccontextmanager
async def a_door(policy: str = "thunder", capacity: int = 1000, **spec: object) -> AsyncIterator[Door]:
    stub = Stub(behaviour=answer_plainly)
    worker = web.Application()
    worker.router.add_route("*", "/{rest:.*}", stub.handle)
    upstream_server = TestServer(worker, handler_cancellation=True)
    await upstream_server.start_server()
    settings = Settings(**spec)  # type: ignore[arg-type]
    shell = Shell(Scheduler(make_policy(policy)), None)
    upstreams = Upstreams(settings)
    stub_url = str(upstream_server.make_url("")).rstrip("/")
    upstreams.add("w0", stub_url)
    shell.submit(ev.WorkerUp("w0", capacity, 1000.0))
    runner = web.AppRunner(web.Application(), handler_cancellation=True)
    await runner.setup()
    assert runner.server is not None
    gateway = Gateway(settings, shell, upstreams, own_key=False)
    server = Server(gateway.handlers(), runner.server, max_body=2**26)
    url = "http://{}:{}".format(*await server.listen("127.0.0.1", 0))
    async with aiohttp.ClientSession() as client:
        yield Door(url, shell, stub, upstreams, client, gateway, stub_url)
    shell.scheduler.check()
    shell.close()
    await server.close(1)
    await runner.cleanup()
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
        ({"metadata": {"program_id": "p", "user_id": 3}}, {}),
        ({"vllm_xargs": {"agentic_context": {"program_id": "p"}}}, {}),
        ({"vllm_xargs": {"agentic_context": "p", "replay": [1, 2]}}, {}),
        ({"program_id": "", "metadata": {"tags": [1]}, "extra_body": {"program_id": None}}, {"X-Session-ID": "p"}),
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


@pytest.mark.parametrize(
    "body",
    [b"[1, 2]", b"not json", b'{"program_id": {"a": 1}}', b"", b"\xff", b'{"program_id": "%s"}' % (b"x" * 257)],
)
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


STOP = (
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"input_tokens":9,"output_tokens":2}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


@pytest.mark.parametrize(
    ("path", "last"), [("/v1/chat/completions", USAGE + DONE), ("/v1/messages", STOP)], ids=["openai", "anthropic"]
)
async def test_a_client_that_hangs_up_at_the_last_event_has_had_its_step(path: str, last: bytes) -> None:
    async def linger(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(TEXT + last)
        await asyncio.sleep(60)
        return response

    async with a_door() as door:
        door.stub.behaviour = linger
        answer = await door.post({"program_id": "p", "stream": True}, path)
        seen = b""
        while not (b"[DONE]" in seen or b"message_stop" in seen):
            seen += await answer.content.readany()
        assert door.shell.tally.finished == 1, "before its client has the last event"
        answer.close()
        await until(lambda: door.stub.aborted == 1)
        assert (door.shell.tally.finished, door.shell.tally.cancelled) == (1, 0)
        assert door.shell.scheduler.programs["p"].steps == 1


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


RESPONSES_ANSWER = {"usage": {"input_tokens": 100, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 60}}}
MESSAGES_ANSWER = {"usage": {"input_tokens": 40, "output_tokens": 5, "cache_read_input_tokens": 60}}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/completions", {"usage": usage()}),
        ("/v1/responses", RESPONSES_ANSWER),
        ("/v1/messages", MESSAGES_ANSWER),
    ],
)
async def test_every_model_api_is_scheduled_and_counted(path: str, said: dict[str, object]) -> None:
    async def answer_in_its_words(request: web.Request) -> web.Response:
        assert request.path == path
        return web.json_response(said)

    async with a_door() as door:
        door.stub.behaviour = answer_in_its_words
        assert (await door.post({"metadata": {"program_id": "p"}}, path)).status == 200
        program = door.shell.scheduler.programs["p"]
        assert (program.context_tokens, program.steps) == (105, 1)
        tally = door.shell.tally
        assert (tally.prompt_tokens, tally.cached_tokens, tally.output_tokens) == (100, 60, 5)


@pytest.mark.parametrize(
    ("path", "events"),
    [
        (
            "/v1/responses",
            [
                b'event: response.created\ndata: {"response":{"usage":null}}\n\n',
                b'event: response.output_text.delta\ndata: {"delta":"a"}\n\n',
                b'event: response.completed\ndata: {"response":' + json.dumps(RESPONSES_ANSWER).encode() + b"}\n\n",
            ],
        ),
        (
            "/v1/messages",
            [
                b'event: message_start\ndata: {"message":{"usage":{"input_tokens":100,"output_tokens":0}}}\n\n',
                b'event: content_block_delta\ndata: {"delta":{"text":"a"}}\n\n',
                b'event: message_delta\ndata: {"delta":{},' + json.dumps(MESSAGES_ANSWER).encode()[1:] + b"\n\n",
            ],
        ),
    ],
)
async def test_their_streams_pass_byte_for_byte_without_anything_asked_of_the_worker(
    path: str, events: list[bytes]
) -> None:
    async with a_door() as door:
        door.stub.behaviour = stream_of(*events)
        body = b'{"program_id": "p", "stream": true}'
        answer = await door.post(body, path)
        assert await answer.read() == b"".join(events)
        assert door.stub.bodies == [body]
        assert door.shell.scheduler.programs["p"].context_tokens == 105


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens", "/tokenize", "/detokenize"])
async def test_what_costs_no_tokens_passes_by_the_scheduler_and_is_no_model_call(path: str) -> None:
    async with a_door() as door:
        answer = await door.post(b"any bytes", path)
        assert (answer.status, door.stub.bodies) == (200, [b"any bytes"])
        assert not door.shell.scheduler.programs and door.shell.tally.unscheduled == 0


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/pause", "/reset_prefix_cache", "/v1/load_lora_adapter", "/v1/responses/r1/cancel", "/"]
)
async def test_every_other_path_is_refused_and_no_worker_hears_of_it(path: str) -> None:
    async with a_door() as door:
        assert (await door.post({"program_id": "p"}, path)).status == 404
        assert not door.stub.bodies


@pytest.mark.parametrize("where", ["top", "extra_body"])
async def test_containers_that_an_agent_registers_are_kept_in_its_programs_story(where: str) -> None:
    named = {"program_id": "p", "docker_ids": ["c1", "c2"]}
    async with a_door() as door:
        for _ in range(2):
            assert (await door.post(named if where == "top" else {"extra_body": named})).status == 200
        story = door.shell.stories.find("p")
        assert story is not None and story.docker_ids == ["c1", "c2"]


async def test_beyond_max_held_new_waiters_are_told_to_come_back_and_those_with_a_place_go_on() -> None:
    async with a_door(capacity=100, max_held=2) as door:
        door.stub.behaviour = stream_of(TEXT, USAGE, DONE, pause_s=0.2)
        pad = "x" * 250
        first = asyncio.create_task(door.post({"program_id": "a", "stream": True, "pad": pad}))
        await until(lambda: len(door.stub.bodies) == 1)
        held = [asyncio.create_task(door.post({"program_id": f"b{n}", "pad": pad})) for n in range(2)]
        await until(lambda: door.shell.held_calls == 2)
        refused = await door.post({"program_id": "c", "pad": pad})
        assert refused.status == 503 and int(refused.headers["Retry-After"]) >= 1
        assert "c" not in door.shell.scheduler.programs and door.shell.tally.overload == 1
        second = asyncio.create_task(door.post({"program_id": "a", "stream": True, "pad": "x"}))
        await until(lambda: len(door.stub.bodies) == 2)
        door.stub.behaviour = answer_plainly
        for call in (first, second, *held):
            assert (await call).status == 200
            await (await call).read()


async def test_a_stopping_daemon_answers_held_and_new_calls_with_503() -> None:
    async with a_door(capacity=100) as door:
        door.stub.behaviour = stream_of(TEXT, USAGE, DONE, pause_s=0.1)
        first = asyncio.create_task(door.post({"program_id": "a", "stream": True, "pad": "x" * 250}))
        await until(lambda: len(door.stub.bodies) == 1)
        held = asyncio.create_task(door.post({"program_id": "b", "pad": "x" * 250}))
        await until(lambda: door.shell.held_calls == 1)
        door.gateway.draining = True
        door.shell.close()
        for answer in (await held, await door.post({"program_id": "c"}), await door.post(b"{}", "/tokenize")):
            assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1
        assert (await (await first).read()).endswith(DONE)  # what was on its way arrives


async def test_an_answer_that_broke_off_is_not_asked_for_again() -> None:
    tries = 0

    async def break_off(request: web.Request) -> web.StreamResponse:
        nonlocal tries
        tries += 1
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"id"')
        assert request.transport is not None
        request.transport.close()
        return response

    async with a_door() as door:
        door.stub.behaviour = break_off
        answer = await door.post({"program_id": "p"})
        assert (answer.status, tries) == (502, 1)
        assert door.shell.tally.failed == 1 and not door.shell.scheduler.calls


async def test_a_call_that_is_repeated_after_its_answer_was_lost_is_served_and_not_counted_again() -> None:
    async with a_door() as door:
        for _ in range(2):
            answer = await door.post({"program_id": "p"}, **{"X-Thunderctl-Call": "k1"})
            assert (await answer.read()).startswith(b'{"id"')
        assert door.shell.scheduler.programs["p"].steps == 1
        assert (await door.post({"program_id": "p"}, **{"X-Thunderctl-Call": "k2"})).status == 200
        assert door.shell.scheduler.programs["p"].steps == 2
        assert door.shell.tally.finished == 2 and door.shell.tally.cancelled == 1


async def test_a_programs_calls_go_to_a_worker_that_is_left_when_its_own_is_gone() -> None:
    async with a_door() as door:
        assert (await door.post({"program_id": "p"})).headers["X-Thunderctl-Worker"] == "w0"
        door.upstreams.add("w1", door.stub_url)
        door.shell.submit(ev.WorkerUp("w1", 1000, 1000.0))
        door.shell.submit(ev.WorkerLost("w0"))
        await door.upstreams.remove("w0")
        answer = await door.post({"program_id": "p"})
        assert (answer.status, answer.headers["X-Thunderctl-Worker"]) == (200, "w1")


async def test_a_worker_that_dies_under_a_call_loses_it_to_another_worker() -> None:
    async with a_door() as door:
        door.stub.behaviour = hang
        call = asyncio.create_task(door.post({"program_id": "p"}))
        await until(lambda: len(door.stub.bodies) == 1)
        door.stub.behaviour = answer_plainly
        door.upstreams.add("w1", door.stub_url)
        door.shell.submit(ev.WorkerUp("w1", 1000, 1000.0))
        door.shell.submit(ev.WorkerLost("w0"))
        await door.upstreams.remove("w0")
        answer = await call
        assert (answer.status, answer.headers["X-Thunderctl-Worker"]) == (200, "w1")
        assert (door.shell.tally.finished, door.shell.tally.retried) == (1, 1)


async def test_a_call_larger_than_any_worker_is_served_or_refused_but_never_left_waiting() -> None:
    async with a_door(capacity=100) as door:
        answer = await asyncio.wait_for(door.post({"program_id": "p", "pad": "x" * 10_000}), 10)
        assert answer.status in (200, 413, 400, 503)
        assert not door.shell.scheduler.calls


async def test_our_own_headers_stay_here() -> None:
    async with a_door() as door:
        sent = {"X-Thunderctl-Token": "secret", "X-Thunderctl-Call": "k", "Accept-Encoding": "gzip", "X-Other": "1"}
        await door.post({"program_id": "p"}, **sent)
        kept = door.stub.headers[0]
        assert kept["X-Other"] == "1"
        assert not {"X-Thunderctl-Token", "X-Thunderctl-Call", "Accept-Encoding"} & set(kept)


async def test_random_disconnects_and_worker_deaths_leave_nothing_behind() -> None:
    """64 programs, each call ends in one outcome, whatever hits it and wherever."""
    dice = random.Random(7)

    async def sometimes(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(dice.random() * 0.02)
        kind = dice.random()
        if kind < 0.1:
            assert request.transport is not None
            request.transport.close()
        if kind < 0.2:
            return web.json_response({"error": {"message": "no"}}, status=dice.choice([400, 500]))
        if kind < 0.6:
            return await stream_of(TEXT, TEXT, USAGE, DONE, cut=kind < 0.3, pause_s=0.002)(request)
        return await answer_plainly(request)

    async with a_door(capacity=3000) as door:
        door.stub.behaviour = sometimes
        door.upstreams.add("w1", door.stub_url)
        door.shell.submit(ev.WorkerUp("w1", 3000, 1000.0))

        async def agent(n: int) -> None:
            for _ in range(6):
                body = {"program_id": f"p{n}", "stream": dice.random() < 0.5, "pad": "x" * dice.randrange(800)}
                with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                    answer = await asyncio.wait_for(door.post(body), dice.choice([0.01, 0.05, 5]))
                    await answer.read()

        async def deaths() -> None:
            for _ in range(5):
                await asyncio.sleep(0.05)
                door.shell.submit(ev.WorkerLost("w1"))
                await door.upstreams.remove("w1")
                await asyncio.sleep(0.02)
                door.upstreams.add("w1", door.stub_url)
                door.shell.submit(ev.WorkerUp("w1", 3000, 1000.0))

        await asyncio.gather(deaths(), *(agent(n) for n in range(64)))
        await until(lambda: not door.shell.scheduler.calls)
        tally = door.shell.tally
        assert tally.arrived == tally.finished + tally.failed + tally.cancelled + tally.rejected
        assert tally.finished > 50 and tally.cancelled > 0 and tally.failed > 0
        assert (door.shell.held_calls, door.shell.in_flight_calls) == (0, 0)
        assert all(p.phase is Phase.ACTING for p in door.shell.scheduler.programs.values())
        for n in range(64):
            door.shell.submit(ev.ProgramReleased(f"p{n}"))
        assert not door.shell.scheduler.programs
        assert all(w.reasoning == w.acting == 0 for w in door.shell.scheduler.workers.values())


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def test_a_client_that_goes_away_before_the_first_byte_aborts_its_call_upstream() -> None:
    async with a_door() as door:
        door.stub.behaviour = hang
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(door.post({"program_id": "p"}), 0.2)
        await until(lambda: door.stub.aborted == 1 and not door.shell.scheduler.calls)
        assert (door.shell.tally.cancelled, door.shell.scheduler.workers["w0"].reasoning) == (1, 0)


async def test_a_client_that_goes_away_in_the_middle_of_a_whole_answer_aborts_it() -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"id"')
        return await hang(request)

    async with a_door() as door:
        door.stub.behaviour = half
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(door.post({"program_id": "p"}), 0.2)
        await until(lambda: door.stub.aborted == 1 and not door.shell.scheduler.calls)
        assert door.shell.tally.cancelled == 1


async def test_a_client_that_goes_away_in_the_middle_of_its_own_body_never_called() -> None:
    async with a_door() as door:
        port = int(door.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await asyncio.sleep(0.05)
        assert not door.shell.scheduler.programs and door.shell.tally.arrived == 0 and not door.stub.bodies


async def test_a_worker_that_is_silent_for_too_long_costs_the_call_and_is_not_asked_again() -> None:
    async with a_door(read_timeout_s=0.2) as door:
        door.stub.behaviour = hang
        answer = await door.post({"program_id": "p"})
        assert answer.status == 502 and "silent" in (await answer.json())["error"]["message"]
        assert len(door.stub.bodies) == 1 and door.shell.tally.failed == 1
        await until(lambda: door.stub.aborted == 1)


async def test_a_body_beyond_the_profiles_limit_is_a_413() -> None:
    async with a_door() as door:
        answer = await door.post(b"{" + b" " * (2**26 + 1) + b"}")
        assert answer.status == 413 and not door.stub.bodies


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"prompt": [5, 6, 7], "program_id": "p"}', 3),
        (b'{"program_id": "p", "prompt":[ 12]}', 1),
        (b'{"program_id": "p", "prompt": "one, two, three"}', None),
        (b'{"program_id": "p", "prompt": [[1, 2], [3]]}', None),
        (b'{"program_id": "p", "prompt": ["a", "b"]}', None),
        (b'{"program_id": "p", "prompt": []}', None),
        (b'{"program_id": "p", "messages": []}', None),
    ],
)
def test_a_prompt_of_token_ids_is_counted_instead_of_estimated(body: bytes, tokens: int | None) -> None:
    assert parse_body(body).prompt_ids() == tokens
