"""The client towards workers, against a server that says exactly what a test wants, byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderctl.daemon.wire import ConnectionFailed, Connections

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;why=not\r\nlo\r\n0\r\n\r\n"
TRAILED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n"
TO_THE_END = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"
ANNOUNCED = b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH


async def request_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await reader.readexactly(size)


class Server:
    """Runs one script for each connection, and counts connections."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.connections = 0
        self.hung_up_on = 0
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        try:
            await script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up_on += 1
        finally:
            writer.close()

    def saying(self, *pieces: bytes, then_close: bool = False, pause_s: float = 0.0) -> Script:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                self.requests.append(await request_of(reader))
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(pause_s)
                if then_close:
                    return

        return script


@asynccontextmanager
async def talking(server: Server, *, limit: int = 10, silence_s: float = 5.0) -> AsyncIterator[Connections]:
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    connections = Connections(f"http://127.0.0.1:{server.port}", limit=limit, connect_timeout_s=2, silence_s=silence_s)
    try:
        yield connections
    finally:
        connections.close()
        listener.close()


async def test_the_request_goes_out_as_it_is() -> None:
    server = Server()
    server._scripts = [server.saying(LENGTH)]
    async with talking(server) as connections:
        answer = await connections.send("POST", "/v1/x", b"X-Request-Id: r1\r\n", b'{"a": 1}')
        assert (answer.status, await answer.read()) == (200, b"hello")
    assert server.requests == [
        b"POST /v1/x HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 8\r\nX-Request-Id: r1\r\n\r\n" % server.port
        + b'{"a": 1}'
    ]


@pytest.mark.parametrize("said", [LENGTH, CHUNKED, TRAILED, TO_THE_END, ANNOUNCED])
@settings(deadline=None, max_examples=12)
@given(cuts=st.lists(st.integers(1, 120), max_size=6))
def test_an_answer_is_the_same_however_its_bytes_are_cut(said: bytes, cuts: list[int]) -> None:
    ends = [0, *sorted(cut for cut in set(cuts) if cut < len(said)), len(said)]
    pieces = [said[a:b] for a, b in zip(ends, ends[1:], strict=False)]

    async def talk() -> tuple[int, bytes]:
        server = Server()
        server._scripts = [server.saying(*pieces, then_close=said is TO_THE_END, pause_s=0.001)]
        async with talking(server) as connections:
            answer = await connections.send("GET", "/")
            return answer.status, await answer.read()

    assert asyncio.run(talk()) == (200, b"hello")


def test_it_works_the_same_on_the_loop_that_the_daemon_uses() -> None:
    async def talk() -> list[bytes]:
        server = Server()
        server._scripts = [server.saying(CHUNKED)]
        async with talking(server) as connections:
            return [await (await connections.send("POST", "/", b"", b"x" * 300_000)).read() for _ in range(3)]

    assert uvloop.run(talk()) == [b"hello"] * 3


@pytest.mark.parametrize("said", [LENGTH, CHUNKED, TRAILED])
async def test_a_connection_is_used_again_after_a_whole_answer(said: bytes) -> None:
    server = Server()
    server._scripts = [server.saying(said)]
    async with talking(server) as connections:
        for _ in range(5):
            assert await (await connections.send("GET", "/")).read() == b"hello"
    assert server.connections == 1


async def test_a_connection_that_the_server_closed_while_idle_costs_nobody_an_answer() -> None:
    server = Server()

    async def answer_once_then_hang_up_at_the_next(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(LENGTH)
        await request_of(reader)

    server._scripts = [answer_once_then_hang_up_at_the_next, server.saying(LENGTH)]
    async with talking(server) as connections:
        for _ in range(2):
            assert await (await connections.send("GET", "/")).read() == b"hello"
    assert server.connections == 2


async def test_a_fresh_connection_that_ends_without_a_byte_is_a_failure_that_may_be_tried_again() -> None:
    server = Server()
    server._scripts = [server.saying(then_close=True)]
    async with talking(server) as connections:
        with pytest.raises(ConnectionFailed, match="hung up without an answer") as caught:
            await connections.send("GET", "/")
    assert not caught.value.begun and server.connections == 1


@pytest.mark.parametrize("said", [LENGTH[:10], CHUNKED[:20]])
async def test_an_answer_that_began_must_not_be_asked_for_again(said: bytes) -> None:
    server = Server()
    server._scripts = [server.saying(said, then_close=True)]
    async with talking(server) as connections:
        with pytest.raises(ConnectionFailed) as caught:
            await connections.send("GET", "/")
    assert caught.value.begun


@pytest.mark.parametrize("said", [LENGTH[:-1], CHUNKED[:-5], CHUNKED[:-1]])
async def test_a_body_that_is_cut_short_is_never_taken_for_a_whole_one(said: bytes) -> None:
    server = Server()
    server._scripts = [server.saying(said, then_close=True)]
    async with talking(server) as connections:
        answer = await connections.send("GET", "/")
        with pytest.raises(ConnectionFailed, match="hung up"):
            await answer.read()


@pytest.mark.parametrize(
    "said",
    [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 two hundred\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
)
async def test_what_is_no_http_is_said_to_be_none(said: bytes) -> None:
    server = Server()
    server._scripts = [server.saying(said)]
    async with talking(server) as connections:
        with pytest.raises(ConnectionFailed, match=r"does not speak HTTP/1\.1"):
            await connections.send("GET", "/")


async def test_a_chunk_without_a_size_ends_the_answer() -> None:
    server = Server()
    server._scripts = [server.saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n")]
    async with talking(server) as connections:
        answer = await connections.send("GET", "/")
        with pytest.raises(ConnectionFailed, match="without a size"):
            await answer.read()


async def test_silence_has_an_end() -> None:
    server = Server()
    server._scripts = [server.saying()]
    async with talking(server, silence_s=0.1) as connections:
        with pytest.raises(ConnectionFailed, match="silent") as caught:
            await connections.send("GET", "/")
        assert caught.value.begun  # it may still be at work on it


async def test_nobody_there_is_a_failure_with_its_reason() -> None:
    connections = Connections("http://127.0.0.1:9", limit=1, connect_timeout_s=2, silence_s=2)
    for _ in range(3):  # and a failure gives its turn back
        with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:9"):
            await connections.send("GET", "/")


async def test_closing_an_answer_hangs_up_so_that_the_engine_can_abort() -> None:
    server = Server()
    server._scripts = [server.saying(CHUNKED[:60], pause_s=0.01), server.saying(LENGTH)]
    async with talking(server, limit=1) as connections:
        answer = await connections.send("GET", "/")
        assert await answer.piece() == b"hel"
        answer.close()
        # The only turn is free again, and the half-read connection is not used for it.
        assert await (await connections.send("GET", "/")).read() == b"hello"
        assert server.connections == 2
        while not server.hung_up_on:
            await asyncio.sleep(0.01)


async def test_a_caller_that_goes_away_while_it_waits_hangs_up_and_frees_its_turn() -> None:
    server = Server()
    server._scripts = [server.saying(), server.saying(LENGTH)]
    async with talking(server, limit=1) as connections:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connections.send("GET", "/"), 0.05)
        assert await (await connections.send("GET", "/")).read() == b"hello"


async def test_no_more_requests_at_a_time_than_the_limit() -> None:
    at_once = most = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        while True:
            await request_of(reader)
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.005)
            at_once -= 1
            writer.write(LENGTH)

    async with talking(Server(count), limit=3) as connections:

        async def one() -> bytes:
            return await (await connections.send("GET", "/")).read()

        assert await asyncio.gather(*(one() for _ in range(20))) == [b"hello"] * 20
    assert most == 3


async def test_an_answer_larger_than_anybody_reads_stops_the_sender() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    async with talking(Server(flood)) as connections:
        answer = await connections.send("GET", "/")
        await asyncio.sleep(0.3)
        assert sent < 50_000_000
        assert len(await answer.read()) == 100_000_000


async def test_closing_tells_everybody_who_waits() -> None:
    server = Server()
    server._scripts = [server.saying()]
    async with talking(server) as connections:
        waiting = asyncio.create_task(connections.send("GET", "/"))
        await asyncio.sleep(0.05)
        connections.close()
        with pytest.raises(ConnectionFailed, match="the worker is gone"):
            await waiting
