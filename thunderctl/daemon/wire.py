"""HTTP/1.1 to one server: pooled connections, answers handed on as they arrive. No retries, no meaning of bodies.

A general client spends more time on a call than all the rest of the gateway (aiohttp's: 90 of 160 µs). This one
speaks only what a proxy needs: one request at a time on a connection, whole bodies out, pieces in.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import cast
from urllib.parse import urlsplit

from thunderctl.daemon.http11 import HEAD_LIMIT, Chunked, Malformed

IDLE_S = 4.0
"""A connection idle for longer is not used again: uvicorn closes it after 5 s, maybe just as a request goes out."""
SWEEP_S = 2.0
"""Between two looks for servers that fell silent."""
QUEUE_LIMIT = 1024 * 1024
"""Bytes of an answer that may wait for their reader before the socket is left unread."""


class ConnectionFailed(Exception):
    """The server cannot be reached, hung up, was silent for too long, or does not speak HTTP/1.1.

    ``begun``: it had begun to answer, or may still be about to: the request must not be sent again.
    """

    def __init__(self, message: str, *, begun: bool = False) -> None:
        super().__init__(message)
        self.begun = begun


class Answer:
    """One answer as it arrives. ``close`` it in any case: what is not complete by then is hung up on."""

    __slots__ = (
        "status", "headers", "_connection", "_buffer", "_left", "_chunks", "_pieces", "_queued", "_reader", "_head",
        "_complete", "_failure", "_keep_alive", "_heard", "_begun", "_take", "_paused",
    )  # fmt: skip

    def __init__(self, connection: _Connection) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self._connection = connection
        self._buffer = bytearray()
        self._left: int | None = None
        """Bytes of the body still to come; ``None`` if only the end of the connection tells."""
        self._chunks: Chunked | None = None
        self._pieces: deque[bytes] = deque()
        self._queued = 0
        self._take: Callable[[bytes], None] | None = None
        self._paused = False
        self._reader: asyncio.Future[None] | None = None
        self._head: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._complete = False
        self._failure: ConnectionFailed | None = None
        self._keep_alive = True
        self._begun = False
        self._heard = time.monotonic()

    @property
    def is_stream(self) -> bool:
        """It is a stream of server-sent events."""
        return any(name == "content-type" and value.startswith("text/event-stream") for name, value in self.headers)

    async def wait_for_head(self) -> None:
        """Until ``status`` and ``headers`` are there; ``ConnectionFailed`` if they never come."""
        await self._head

    async def piece(self) -> bytes:
        """What has arrived since the last piece; empty at the end. ``ConnectionFailed`` if it was cut short."""
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self._complete:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._queued > QUEUE_LIMIT and not self._complete:
            self._heard = time.monotonic()
            self._connection.resume()
        self._queued = 0
        return data

    async def read(self) -> bytes:
        """The whole body."""
        found = [await self.piece()]
        while found[-1]:
            found.append(await self.piece())
        return found[0] if len(found) == 2 else b"".join(found)

    async def each(self, take: Callable[[bytes], None]) -> None:
        """Hand every piece to ``take`` in the moment it arrives; returns at the end.

        Raises:
            ConnectionFailed: it was cut short.
        """
        if self._pieces:
            take(await self.piece())
        self._take = take
        try:
            await self.piece()
        finally:
            self._take = None

    def pause(self) -> None:
        """Leave the rest unread until :meth:`resume`."""
        if not self._over:
            self._paused = True
            self._connection.pause()

    def resume(self) -> None:
        if self._paused and not self._over:
            self._heard = time.monotonic()
            self._connection.resume()
        self._paused = False

    @property
    def _over(self) -> bool:
        """The connection is somebody else's by now."""
        return self._complete or self._failure is not None

    def close(self) -> None:
        """Let the connection go: back to the pool if the answer is complete, else hang up (the server then aborts)."""
        self.fail("it was given up here")

    # ------------------------------------------------------------------ what the connection tells

    def feed(self, data: bytes) -> None:
        self._heard = time.monotonic()
        self._begun = True
        if not self._head.done():
            self._buffer += data
            if not self._take_head():
                return
            data = bytes(self._buffer)
            self._buffer.clear()
        if self._complete:
            return
        if self._chunks is not None:
            self._take_chunks(self._chunks, data)
        elif self._left is None:
            self._hand_on(data)
        else:
            self._keep_alive = self._keep_alive and len(data) <= self._left  # more than it announced: no sense in it
            self._hand_on(data[: self._left])
            self._left -= min(len(data), self._left)
            if self._left == 0:
                self._finish()

    def _take_head(self) -> bool:
        """Read status and headers off the buffer; false while they are not all there."""
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > HEAD_LIMIT:
                    self.fail("its headers do not end")
                return False
            lines = self._buffer[:end].decode("latin-1").split("\r\n")
            del self._buffer[: end + 4]
            try:
                version, code = lines[0].split(" ", 2)[:2]
                self.status = int(code)
                if not version.startswith("HTTP/1."):
                    raise ValueError
                self._read_headers(lines[1:], version)
            except ValueError:
                self.fail(f"it does not speak HTTP/1.1: {lines[0][:80]!r}")
                return False
            if self.status >= 200:  # 1xx only announce the answer
                break
        if self._left == 0:
            self._finish()
        if not self._head.done():  # whoever waited may have gone
            self._head.set_result(None)
        return True

    def _read_headers(self, lines: list[str], version: str) -> None:
        self.headers = []
        self._keep_alive = version != "HTTP/1.0"
        for line in lines:
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip()
            self.headers.append((name, value))
            if name == "content-length":
                self._left = int(value)
            elif name == "transfer-encoding":
                self._chunks = Chunked() if value.lower() == "chunked" else None
            elif name == "connection" and value.lower() == "close":
                self._keep_alive = False
        if self.status in (204, 304):
            self._left = 0
        if self._chunks is not None:
            self._left = None

    def _take_chunks(self, chunks: Chunked, data: bytes) -> None:
        try:
            self._hand_on(chunks.feed(data))
        except Malformed as wrong:
            self.fail(str(wrong))
        if chunks.complete:
            self._keep_alive = self._keep_alive and not chunks.rest
            self._finish()

    def _hand_on(self, data: bytes) -> None:
        if not data:
            return
        if self._take is not None:
            self._take(data)
            return
        self._pieces.append(data)
        self._queued += len(data)
        if self._queued > QUEUE_LIMIT:
            self._connection.pause()
        self._wake()

    def _finish(self) -> None:
        self._complete = True
        self._end(reusable=self._keep_alive)

    def hung_up(self) -> None:
        """The connection ended."""
        if self._head.done() and self._left is None and self._chunks is None:
            self._keep_alive = False
            self._finish()
        else:
            self.fail("it hung up" if self._begun else "it hung up without an answer")

    def fail(self, reason: str) -> None:
        """The answer will not come, or not to its end. Nothing happens if it is over already."""
        if self._over:
            return
        self._failure = ConnectionFailed(f"{self._connection.place}: {reason}", begun=self._begun)
        if not self._head.done():
            self._head.set_exception(self._failure)
            self._head.exception()  # nobody may be there to see it
        self._end(reusable=False)

    def _end(self, *, reusable: bool) -> None:
        self._connection.resume()  # whoever asks next on it must be heard
        self._connection.answered(self, reusable=reusable)
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def check(self, now: float, silence_s: float) -> None:
        """Fail if nothing was heard for ``silence_s`` seconds. A reader that does not keep up is no silence."""
        if now - self._heard > silence_s and not self._paused and self._queued <= QUEUE_LIMIT:
            self._begun = True
            self.fail(f"it was silent for {silence_s:.0f} s")


class _Connection(asyncio.Protocol):
    """One TCP connection; ``answer`` is what it waits for at present."""

    def __init__(self, pool: Connections) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self.idle_since = 0.0

    @property
    def place(self) -> str:
        return self._pool.place

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: Iterable[bytes]) -> Answer:
        assert self._transport is not None  # noqa: S101 - a pool hands out connected ones only
        self._answer = Answer(self)
        self._transport.writelines(request)
        return self._answer

    def answered(self, answer: Answer, *, reusable: bool) -> None:
        self._answer = None
        self.idle_since = time.monotonic()
        if not reusable:
            self.hang_up()
        self._pool.give_back(self, answer)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.usable and self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        if self._answer is not None:
            self._answer.feed(data)
        else:
            self.hang_up()  # nobody asked

    def connection_lost(self, exc: Exception | None) -> None:
        answer, self._transport = self._answer, None
        if answer is not None:
            answer.hung_up()
        else:
            self._pool.forget(self)


class Connections:
    """At most ``limit`` requests to one server at a time; more of them wait for their turn.

    ``silence_s``: longest time without a byte of an answer. ``url`` is the base URL, without ``/v1``.
    """

    def __init__(self, url: str, *, limit: int, connect_timeout_s: float, silence_s: float) -> None:
        parts = urlsplit(url)
        self.url = url
        self.place = parts.netloc
        self._host = parts.hostname or ""
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/").encode()
        self._connect_timeout_s = connect_timeout_s
        self._silence_s = silence_s
        self._turns = asyncio.Semaphore(limit)
        self._idle: list[_Connection] = []
        self._busy: set[Answer] = set()
        self._closed = False
        self._watch: asyncio.TimerHandle | None = None

    def _check_all(self) -> None:
        """Look for servers that fell silent, now and again while any answer is awaited."""
        now = time.monotonic()
        for answer in list(self._busy):
            answer.check(now, self._silence_s)
        pause_s = min(SWEEP_S, self._silence_s / 4)
        self._watch = asyncio.get_running_loop().call_later(pause_s, self._check_all) if self._busy else None

    async def send(self, method: str, path: str, headers: bytes = b"", body: bytes = b"") -> Answer:
        """Send one request; returns when status and headers of its answer are there.

        ``headers``: whole lines, each with its CRLF; Host and Content-Length are added.

        Raises:
            ConnectionFailed: no answer. The request may have reached the server all the same.
        """
        head = (
            method.encode() + b" " + self._prefix + path.encode() + b" HTTP/1.1\r\nHost: " + self.place.encode()
            + b"\r\nContent-Length: " + str(len(body)).encode() + b"\r\n" + headers + b"\r\n"
        )  # fmt: skip
        while True:
            await self._turns.acquire()
            connection = self._take_idle()
            fresh = connection is None
            if connection is None:
                try:
                    connection = await self._connect()
                except BaseException:
                    self._turns.release()
                    raise
            answer = connection.ask((head, body))
            self._busy.add(answer)
            if self._watch is None:
                self._check_all()
            try:
                await answer.wait_for_head()
                return answer
            except ConnectionFailed as failure:
                # An idle connection that the server closed in the same moment says nothing about the server.
                if fresh or failure.begun or self._closed:
                    raise
            except BaseException:
                answer.close()
                raise

    def _take_idle(self) -> _Connection | None:
        old = time.monotonic() - IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_since > old:
                return connection
            connection.hang_up()
        return None

    async def _connect(self) -> _Connection:
        if self._closed:
            raise ConnectionFailed(f"{self.place}: the worker is gone")
        connection = _Connection(self)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, self._host, self._port, ssl=self._tls or None
                )
        except TimeoutError:
            raise ConnectionFailed(f"{self.place}: no connection in {self._connect_timeout_s:g} s") from None
        except OSError as refused:
            raise ConnectionFailed(f"{self.place}: {refused.strerror or refused}") from None
        if not connection.usable:
            raise ConnectionFailed(f"{self.place}: it hung up without an answer")
        return connection

    def give_back(self, connection: _Connection, answer: Answer) -> None:
        """A request is over; its connection waits for the next one if it still can."""
        self._turns.release()
        self._busy.discard(answer)
        if connection.usable:
            self._idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        """The server closed a connection that was idle."""
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Hang up everywhere; whoever waits for an answer is told that it will not come."""
        self._closed = True
        for answer in list(self._busy):
            answer.fail("the worker is gone")
        if self._watch is not None:
            self._watch.cancel()
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.hang_up()
