"""The port between real sockets: what it hands to whom, and clients that are slow, rude, chatty or gone."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from thunderctl.daemon.door import STREAMED, Door, Exchange, Handler, Reply, error, web_error

MAX_BODY = 5_000_000


@dataclass
class Served:
    """What handlers saw, and the address."""

    door: Door
    host: str
    port: int
    seen: list[Exchange] = field(default_factory=list)
    gone: int = 0
    url: str = ""

    async def raw(self, *pieces: bytes, pause_s: float = 0.0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        return reader, writer


class _Source:
    """A stream's source; counts how often it was told to wait and to go on."""

    def __init__(self) -> None:
        self.paused = self.resumed = 0

    def pause(self) -> None:
        self.paused += 1

    def resume(self) -> None:
        self.resumed += 1


@asynccontextmanager
async def a_door(
    extra: Handler | None = None, refusal: Callable[[Exchange], Reply | None] = lambda request: None, **settings: float
) -> AsyncIterator[Served]:
    """``POST /echo`` answers with the body, ``/wait`` never, ``/extra`` as told; ``/app`` is aiohttp's."""

    async def echo(request: Exchange) -> Reply:
        served.seen.append(request)
        await asyncio.sleep(0)
        return Reply(200, request.body, [("X-Path", request.path)])

    async def wait(request: Exchange) -> Reply:
        served.seen.append(request)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            served.gone += 1
            raise
        raise AssertionError

    async def app(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        kind = request.query.get("kind")
        if kind == "stream":
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(3):
                await response.write(b"part")
            return response
        if kind == "wait":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                served.gone += 1
                raise
        if kind == "fail":
            raise RuntimeError("on purpose")
        return web.Response(body=b"%d bytes" % len(body))

    async def unread(request: web.Request) -> web.Response:
        return web_error(403, "no", "forbidden")

    application = web.Application(client_max_size=MAX_BODY)
    application.add_routes([web.get("/app", app), web.post("/app", app), web.post("/unread", unread)])
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    assert runner.server is not None
    handlers = {("POST", "/echo"): echo, ("POST", "/wait"): wait}
    if extra is not None:
        handlers["POST", "/extra"] = extra
    door = Door(handlers, runner.server, max_body=MAX_BODY, refusal=refusal, **settings)
    host, port = await door.listen("127.0.0.1", 0)
    served = Served(door, host, port)
    served.url = f"http://{host}:{port}"
    yield served
    await door.close(1)
    await runner.cleanup()
    assert not door.connections


async def until(true: Callable[[], bool]) -> None:
    for _ in range(400):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never happened")


def post(path: str, body: bytes, *lines: str) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """(status, head, body) of an answer that tells its length."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return int(head.split(b" ")[1]), head, await reader.readexactly(length)


async def test_one_connection_serves_handlers_and_the_application_in_turn() -> None:
    async with a_door() as served, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as client:
        for _ in range(3):
            async with client.post(served.url + "/echo?x=1", data=b"abc") as answer:
                assert (await answer.read(), answer.headers["X-Path"]) == (b"abc", "/echo")
            async with client.post(served.url + "/app", data=b"x" * 3_000_000) as answer:
                assert await answer.read() == b"3000000 bytes"
            async with client.get(served.url + "/app?kind=stream") as answer:
                assert await answer.read() == b"part" * 3
            async with client.post(served.url + "/unread", data=b"x" * 3_000_000) as answer:
                assert answer.status == 403
            async with client.get(served.url + "/nothing") as answer:
                assert answer.status == 404
        assert len(served.door.connections) == 1


async def test_a_request_that_comes_byte_by_byte_is_read() -> None:
    async with a_door() as served:
        whole = post("/echo", b"abc")
        reader, writer = await served.raw(*(whole[n : n + 1] for n in range(len(whole))))
        assert (await answer_of(reader))[2] == b"abc"
        writer.close()


async def test_a_body_in_chunks_is_read_by_handlers_and_the_application() -> None:
    head = "POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with a_door() as served:
        for path, said in (("/echo", b"abcde"), ("/app", b"5 bytes")):
            reader, writer = await served.raw(head.format(path).encode(), b"3\r\nab", b"c\r\n2\r\nde\r\n0\r\n", b"\r\n")
            assert (await answer_of(reader))[2] == said
            writer.close()


@pytest.mark.parametrize("path", ["/echo", "/app"])
async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked_once(path: str) -> None:
    async with a_door() as served:
        whole = post(path, b"abc", "Expect: 100-continue")
        reader, writer = await served.raw(whole[:-3])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        status, _, body = await answer_of(reader)
        assert (status, body) == (200, b"abc" if path == "/echo" else b"3 bytes")
        writer.close()


async def test_requests_sent_before_their_answers_are_answered_in_order() -> None:
    async with a_door() as served:
        parts = [post("/echo" if n % 2 else "/app", b"x" * n) for n in range(6)]
        reader, writer = await served.raw(b"\r\n".join(parts))
        answers = [(await answer_of(reader))[2] for _ in range(6)]
        assert answers == [b"x" * n if n % 2 else b"%d bytes" % n for n in range(6)]
        writer.close()


async def test_what_is_sent_far_ahead_is_left_unread_until_its_turn() -> None:
    async with a_door() as served:
        reader, writer = await served.raw()
        writer.write(post("/echo", b"x" * 1000) * 2000)
        for _ in range(2000):
            assert len((await answer_of(reader))[2]) == 1000
        writer.close()


@pytest.mark.parametrize("path", ["/wait", "/app?kind=wait"])
async def test_a_client_that_goes_away_cancels_whoever_works_for_it(path: str) -> None:
    async with a_door() as served:
        _, writer = await served.raw(post(path, b""), pause_s=0.05)
        assert served.gone == 0
        writer.close()
        await until(lambda: served.gone == 1 and not served.door.connections)


async def test_a_stream_waits_for_its_client() -> None:
    source = _Source()

    async def pour(request: Exchange) -> Reply:
        request.begin(200, [("Content-Type", "text/event-stream")], source)
        for _ in range(400):
            request.write(b"x" * 100_000)
            await asyncio.sleep(0)
            while source.paused > source.resumed:
                await asyncio.sleep(0.01)
        request.end()
        return STREAMED

    async with a_door(pour) as served:
        reader, writer = await served.raw(post("/extra", b""), pause_s=0.2)
        assert (source.paused, source.resumed) == (1, 0), "nobody read"
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head.lower()
        got = 0
        while size := int(await reader.readuntil(b"\r\n"), 16):
            got += len(await reader.readexactly(size))
            await reader.readexactly(2)
        assert got == 40_000_000 and source.paused == source.resumed
        writer.close()


async def test_a_stream_that_is_cut_ends_without_its_last_chunk() -> None:
    async def cut(request: Exchange) -> Reply:
        request.begin(200, [], _Source())
        request.write(b"half")
        request.cut()
        return STREAMED

    async with a_door(cut) as served, aiohttp.ClientSession() as client:
        answer = await client.post(served.url + "/extra")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_stream_for_an_old_client_ends_with_its_connection() -> None:
    async def stream(request: Exchange) -> Reply:
        request.begin(200, [], _Source())
        request.write(b"one")
        request.write(b"two")
        request.end()
        return STREAMED

    async with a_door(stream) as served:
        reader, writer = await served.raw(b"POST /extra HTTP/1.0\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert body == b"onetwo" and b"chunked" not in head
        writer.close()


@pytest.mark.parametrize("path", ["/extra", "/app?kind=fail"])
async def test_a_failing_handler_is_a_500_and_the_connection_goes_on(path: str) -> None:
    async def fail(request: Exchange) -> Reply:
        raise RuntimeError("on purpose")

    async with a_door(fail) as served:
        reader, writer = await served.raw(post(path, b""))
        assert (await answer_of(reader))[0] == 500
        writer.write(post("/echo", b"abc"))
        if path == "/extra":
            assert (await answer_of(reader))[2] == b"abc"
        writer.close()


async def test_whoever_is_refused_reaches_neither_handlers_nor_the_application() -> None:
    def refusal(request: Exchange) -> Reply | None:
        return None if request.headers.get("X-Key") == "k" else error(401, "no key", "authentication_error")

    async with a_door(refusal=refusal) as served, aiohttp.ClientSession() as client:
        for path in ("/echo", "/app"):
            async with client.post(served.url + path) as answer:
                assert (answer.status, (await answer.json())["error"]["message"]) == (401, "no key")
            async with client.post(served.url + path, headers={"X-Key": "k"}) as answer:
                assert answer.status == 200
        assert len(served.seen) == 1


async def test_whoever_is_refused_is_not_asked_for_the_body() -> None:
    head = b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n"
    async with a_door(refusal=lambda request: Reply(401, b"no")) as served:
        reader, writer = await served.raw(head)
        status, _, body = await answer_of(reader)
        assert (status, body) == (401, b"no")
        writer.close()


async def test_head_gets_no_body_so_that_the_next_answer_is_the_next_one() -> None:
    async with a_door() as served:
        reader, writer = await served.raw(b"HEAD /echo HTTP/1.1\r\n\r\n", post("/echo", b"abc"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
        assert (await answer_of(reader))[2] == b"abc"
        writer.close()


async def test_a_client_that_sends_without_reading_is_left_waiting() -> None:
    answers = 0

    async def large(exchange: Exchange) -> Reply:
        nonlocal answers
        answers += 1
        return Reply(200, b"x" * 1_000_000)

    async with a_door(large) as served:
        reader, writer = await served.raw(post("/extra", b"") * 200)
        while answers < 2:
            await asyncio.sleep(0.01)
        before = -1
        while before != answers:  # until it goes no further
            before = answers
            await asyncio.sleep(0.5)
        assert answers < 50
        for _ in range(200):
            assert len((await answer_of(reader))[2]) == 1_000_000
        writer.close()


async def test_thousands_of_refused_requests_in_one_piece_are_each_told_so() -> None:
    async with a_door(refusal=lambda request: Reply(403, b"no")) as served:
        reader, writer = await served.raw(b"GET / HTTP/1.1\r\n\r\n" * 3000)
        for _ in range(3000):
            status, _, body = await answer_of(reader)
            assert (status, body) == (403, b"no")
        writer.close()


async def test_a_known_path_under_another_method_is_a_405() -> None:
    async with a_door() as served, aiohttp.ClientSession() as client, client.get(served.url + "/echo") as answer:
        assert answer.status == 405


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (post("/echo", b"abc", "Content-Length: 4"), 400),
        (post("/echo", b"", "X: " + "y" * 70_000), 431),
        (b"POST /echo HTTP/1.1\r\nX: " + b"y" * 70_000, 431),
        (b"POST /echo HTTP/1.1\r\nContent-Length: 5000001\r\n\r\n", 413),
        (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4c4b41\r\n" + b"x" * 5_000_001, 413),
        (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
    ],
)
async def test_a_request_that_is_none_is_told_why_and_hung_up_on(sent: bytes, status: int) -> None:
    async with a_door() as served:
        reader, writer = await served.raw(sent)
        got, head, body = await answer_of(reader)
        assert (got, b"connection: close" in head, b'"error"' in body) == (status, True, True)
        writer.close()
        await until(lambda: not served.door.connections)
        assert not served.seen


@pytest.mark.parametrize("sent", [b"POST /echo HT", b"POST /echo HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"])
async def test_a_request_that_never_ends_is_given_up(sent: bytes) -> None:
    async with a_door(patience_s=0.2) as served:
        reader, writer = await served.raw(sent)
        assert (await answer_of(reader))[0] == 408
        writer.close()


async def test_an_idle_connection_and_one_that_waits_for_its_answer_stay() -> None:
    async with a_door(patience_s=0.1) as served:
        reader, writer = await served.raw(post("/echo", b"abc"))
        assert (await answer_of(reader))[0] == 200
        _, waiting = await served.raw(post("/wait", b""))
        await asyncio.sleep(0.4)
        assert len(served.door.connections) == 2 and served.gone == 0
        writer.write(post("/echo", b"again"))
        assert (await answer_of(reader))[2] == b"again"
        writer.close()
        waiting.close()


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_packed_body_is_unpacked(coding: str, pack: Callable[[bytes], bytes]) -> None:
    async with a_door() as served, aiohttp.ClientSession() as client:
        sent = {"Content-Encoding": coding}
        async with client.post(served.url + "/echo", data=pack(b"abc" * 9), headers=sent) as answer:
            assert await answer.read() == b"abc" * 9
        async with client.post(served.url + "/echo", data=pack(b"x" * (MAX_BODY + 1)), headers=sent) as answer:
            assert answer.status == 413
        async with client.post(served.url + "/echo", data=b"no such thing", headers=sent) as answer:
            assert answer.status == 400
        async with client.post(served.url + "/echo", data=b"abc", headers={"Content-Encoding": "br"}) as answer:
            assert answer.status == 415


async def test_closing_lets_answers_end_and_takes_no_more() -> None:
    async def slow(request: Exchange) -> Reply:
        await asyncio.sleep(0.2)
        return Reply(200, b"done")

    async with a_door(slow) as served:
        reader, writer = await served.raw(post("/extra", b""), pause_s=0.05)
        idle, other = await served.raw()
        await served.door.close(5)
        status, head, body = await answer_of(reader)
        assert (status, body) == (200, b"done") and b"connection: close" in head
        assert await idle.read() == b"" == await reader.read()
        with pytest.raises(OSError):
            await asyncio.open_connection(served.host, served.port)
        writer.close()
        other.close()
