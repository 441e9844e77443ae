"""The port of a node: requests on the paths of ``handlers`` go straight there, all others to aiohttp's application.

One reader takes every request off the connection, whole, before anybody sees it; aiohttp is fed one at a time. A
client that goes away cancels its handler at whatever that waits for. Requests that come before an answer has gone out
wait for their turn.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol, cast

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from thunderctl.daemon.guest import Guest, Lent, whole
from thunderctl.daemon.http11 import (
    HEAD_LIMIT,
    LAST_CHUNK,
    Chunked,
    Head,
    Headers,
    Malformed,
    answer_head,
    chunk,
    parse_head,
)

log = logging.getLogger("thunderctl.door")

PATIENCE_S = 30.0
"""A request has to be here within this, and a second more for each ``SLOWEST`` bytes of it."""
SLOWEST = 4096
IDLE_S = 3630.0
"""A connection without a request is closed after this: later than any proxy before us would."""
LINGER_S = 5.0
"""What a refused client still sends is read for so long, so that it gets to see why."""
SWEEP_S = 2.0
UNREAD = 1024 * 1024
"""Bytes of an answer that may wait for their client before its source is paused."""
AHEAD = 64 * 1024
"""Bytes of further requests that may wait for the present one."""


@dataclass(slots=True)
class Reply:
    """A whole answer."""

    status: int
    body: bytes
    headers: Headers = ()


STREAMED = Reply(0, b"")
"""What a handler returns that has begun and ended a stream, or cut it."""


def error(status: int, message: str, kind: str, retry_after_s: float | None = None) -> Reply:
    """An error in a shape that OpenAI's and Anthropic's clients read, with Retry-After where that makes sense."""
    headers = [("Content-Type", "application/json; charset=utf-8"), ("Date", formatdate(usegmt=True))]
    if retry_after_s:
        headers.append(("Retry-After", str(max(1, round(retry_after_s)))))
    said = {"type": "error", "error": {"message": message, "type": kind, "code": status}}
    return Reply(status, msgspec.json.encode(said), headers)


def web_error(status: int, message: str, kind: str, retry_after_s: float | None = None) -> web.Response:
    """The same for handlers of aiohttp's application."""
    reply = error(status, message, kind, retry_after_s)
    return web.Response(status=status, body=reply.body, headers=CIMultiDict(reply.headers))


class Source(Protocol):
    """Where a stream comes from: told to wait while its client does not keep up."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Exchange:
    """One request, whole, and the way back for a stream; a whole answer is returned as a :class:`Reply`."""

    __slots__ = ("method", "path", "headers", "raw_headers", "body", "begun", "ended", "_connection", "_head")

    def __init__(self, connection: _Connection, head: Head, body: bytes) -> None:
        self.method = head.method
        self.path = head.target.partition("?")[0]
        """Without the query."""
        self.headers: CIMultiDict[str] = head.headers
        self.raw_headers = head.raw_headers
        self.body = body
        self.begun = self.ended = False
        self._connection = connection
        self._head = head

    def begin(self, status: int, headers: Headers, source: Source) -> None:
        """Begin an answer of unknown length; ``source`` is paused while the client does not read."""
        self.begun = True
        self._connection.source = source
        self._connection.write(answer_head(status, headers, close=self._head.http10))
        if self._connection.writing_paused:
            source.pause()

    def write(self, data: bytes) -> None:
        """Send the next part of the stream; not an empty one, which would end it."""
        self._connection.write(data if self._head.http10 else chunk(data))

    def end(self) -> None:
        self.ended = True
        self._connection.source = None
        if not self._head.http10:
            self._connection.write(LAST_CHUNK)

    def cut(self) -> None:
        """Give up an answer in the midst of it, so that nobody takes it for a whole one."""
        self._connection.hang_up()


Handler = Callable[[Exchange], Awaitable[Reply]]


class Door:
    """Connections of one port. ``handlers`` go by method and path, ``others`` serves every other path.

    ``refusal`` is asked first, whatever the path. ``max_body`` is in bytes.
    """

    def __init__(
        self,
        handlers: Mapping[tuple[str, str], Handler],
        others: web.Server,
        *,
        max_body: int,
        refusal: Callable[[Exchange], Reply | None] = lambda exchange: None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.handlers = handlers
        self.others = others
        self.max_body = max_body
        self.refusal = refusal
        self.closing = False
        self.connections: set[_Connection] = set()
        self._paths = {path for _, path in handlers}
        self._patience_s = patience_s
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Open the door; the address that it got."""
        server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), host, port, backlog=4096)
        self._servers.append(server)
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        found: tuple[str, int] = server.sockets[0].getsockname()[:2]
        return found

    def knows(self, path: str) -> bool:
        return path in self._paths

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(SWEEP_S, self._patience_s / 4))
            now = time.monotonic()
            for connection in list(self.connections):
                connection.check(now, self._patience_s)

    async def close(self, timeout_s: float) -> None:
        """Take no further requests; answers under way have ``timeout_s`` to end."""
        self.closing = True
        for server in self._servers:
            server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        tasks = [task for c in list(self.connections) if (task := c.finish()) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        for connection in list(self.connections):
            connection.finish(now=True)


class _Connection(asyncio.Protocol):
    """One client. Either a request is arriving, or one is being answered, by a task or by a guest of aiohttp's."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._transport: asyncio.Transport | None = None
        self.source: Source | None = None
        """Of the stream that is being written."""
        self.writing_paused = False
        self._buffer = b""
        """What has come of a head, or of the requests behind the one that is being answered."""
        self._head: Head | None = None
        self._parts: list[bytes] = []
        self._size = 0
        """Bytes that have come of the body."""
        self._chunks: Chunked | None = None
        self._began: float | None = None
        """When the request that is arriving began to."""
        self._idle_since = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._guest: Guest | None = None
        self._refused = False

    @property
    def _busy(self) -> bool:
        return self._task is not None or self._guest is not None

    # ------------------------------------------------------------------ what the socket tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name
        self._transport.set_write_buffer_limits(UNREAD)
        self._door.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._door.connections.discard(self)
        if self._task is not None:
            self._task.cancel()
        if self._guest is not None:
            self._guest.connection_lost(exc)

    def pause_writing(self) -> None:
        self.writing_paused = True
        if self.source is not None:
            self.source.pause()
        if self._guest is not None:
            self._guest.pause_writing()

    def resume_writing(self) -> None:
        self.writing_paused = False
        if self.source is not None:
            self.source.resume()
        if self._guest is not None:
            self._guest.resume_writing()
        if not self._busy:
            self._take_next()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._busy or (self.writing_paused and self._head is None):
            self._buffer += data
            if len(self._buffer) > AHEAD and self._transport is not None and self._transport.is_reading():
                self._transport.pause_reading()
            return
        if self._began is None:
            self._began = time.monotonic()
        try:
            if self._head is None:
                self._take_head(self._buffer + data if self._buffer else data)
            else:
                self._take_body(self._head, data)
        except Malformed as wrong:
            self._refuse(wrong)

    # ------------------------------------------------------------------ a request arrives

    def _take_head(self, data: bytes) -> None:
        data = data.lstrip(b"\r\n")  # some clients end a body with a line too many
        end = data.find(b"\r\n\r\n")
        if end > HEAD_LIMIT or (end < 0 and len(data) > HEAD_LIMIT):
            raise Malformed(f"the request's headers are longer than {HEAD_LIMIT} bytes", 431)
        if end < 0:
            self._buffer = data
            if not data:
                self._began = None
            return
        self._buffer = b""
        head = self._head = parse_head(data[:end])
        if head.length > self._door.max_body:
            raise Malformed(f"the body is longer than {self._door.max_body} bytes (gateway.max_body_mib)", 413)
        if head.chunked:
            self._chunks = Chunked()
        self._take_body(head, data[end + 4 :])
        if self._head is None:
            return  # its body was there already
        refusal = self._door.refusal(Exchange(self, head, b""))
        if refusal is not None:
            self._dismiss(refusal)  # nobody without a key may have us keep a body
        elif head.expects:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take_body(self, head: Head, data: bytes) -> None:
        if self._chunks is not None:
            part = self._chunks.feed(data)
            self._size += len(part)
            self._parts.append(part)
            if self._size > self._door.max_body:
                raise Malformed(f"the body is longer than {self._door.max_body} bytes (gateway.max_body_mib)", 413)
            if not self._chunks.complete:
                return
            self._buffer, self._chunks = self._chunks.rest, None
        else:
            left = head.length - self._size
            if len(data) < left:
                self._size += len(data)
                self._parts.append(data)
                return
            self._parts.append(data[:left])
            self._buffer = data[left:]
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size, self._head, self._began = 0, None, None
        self._answer(head, body)

    def _refuse(self, wrong: Malformed) -> None:
        self._dismiss(error(wrong.status, str(wrong), "invalid_request_error"))

    def _dismiss(self, reply: Reply) -> None:
        """Say why, and hang up once the client has had time to read it."""
        self._refused, self._began = True, None
        self._parts.clear()
        self.write(answer_head(reply.status, reply.headers, length=len(reply.body), close=True) + reply.body)
        asyncio.get_running_loop().call_later(LINGER_S, self.hang_up)

    # ------------------------------------------------------------------ and is answered

    def _answer(self, head: Head, body: bytes) -> None:
        exchange = Exchange(self, head, body)
        refusal = self._door.refusal(exchange)
        if refusal is not None:
            self._reply(refusal, head)
        elif self._door.knows(exchange.path):
            handler = self._door.handlers.get((head.method, exchange.path), _wrong_method)
            self._task = asyncio.get_running_loop().create_task(self._serve(handler, exchange, head))
        elif self._transport is not None:
            self._guest = Guest(self._door.others)
            self._guest.connection_made(Lent(self.served, self._transport, self._guest, keep_alive=head.keep_alive))
            if self.writing_paused:
                self._guest.pause_writing()
            self._guest.data_received(whole(head, body))

    async def _serve(self, handler: Handler, exchange: Exchange, head: Head) -> None:
        try:
            if "Content-Encoding" in head.headers:
                exchange.body = _unpacked(head.headers["Content-Encoding"], exchange.body, self._door.max_body)
            reply = await handler(exchange)
        except Malformed as wrong:
            reply = error(wrong.status, str(wrong), "invalid_request_error")
        except Exception:
            log.exception("%s %s failed", head.method, exchange.path)
            reply = error(500, "the daemon failed to answer; its log says why", "internal_error")
        self._task = None
        if exchange.begun:
            self.served(exchange.ended and head.keep_alive and not head.http10)
        else:
            self._reply(reply, head)

    def _reply(self, reply: Reply, head: Head) -> None:
        keep_alive = head.keep_alive and not self._door.closing
        said = answer_head(reply.status, reply.headers, length=len(reply.body), close=not keep_alive)
        self.write(said if head.method == "HEAD" else said + reply.body)
        self.served(keep_alive)

    def served(self, keep_alive: bool) -> None:
        """An answer is out; whatever was sent behind its request is next."""
        self.source = self._guest = None
        if not keep_alive or self._door.closing:
            self.hang_up()
            return
        self._idle_since = time.monotonic()
        if not self.writing_paused:
            self._take_next()

    def _take_next(self) -> None:
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()
        if self._buffer:
            asyncio.get_running_loop().call_soon(self._go_on)  # not here: thousands of requests may stand in one piece

    def _go_on(self) -> None:
        if self._buffer and not self._busy and self._transport is not None:
            data, self._buffer = self._buffer, b""
            self.data_received(data)

    # ------------------------------------------------------------------ what others ask of it

    def write(self, data: bytes) -> None:
        """Send ``data``; nothing happens if the client is gone."""
        if self._transport is not None:
            self._transport.write(data)

    def hang_up(self) -> None:
        """Close, once what was written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def finish(self, *, now: bool = False) -> asyncio.Task[None] | None:
        """Close if nothing is under way, or ``now``; the task that answers, if one does. aiohttp ends its guests."""
        if self._guest is None and (now or self._task is None):
            self.hang_up()
        return self._task

    def check(self, now: float, patience_s: float) -> None:
        """Hang up on a client that sends too slowly, or has not sent anything for long."""
        if self._began is not None:
            came = self._size + len(self._buffer)
            if now - self._began > patience_s + came / SLOWEST:
                self._refuse(Malformed("the request did not arrive in time", 408))
        elif not self._busy and now - self._idle_since > IDLE_S:
            self.hang_up()


async def _wrong_method(exchange: Exchange) -> Reply:
    return error(405, f"{exchange.method} is no method of {exchange.path}", "invalid_request_error")


def _unpacked(coding: str, body: bytes, limit: int) -> bytes:
    if coding.lower() not in ("gzip", "deflate"):
        raise Malformed(f"Content-Encoding {coding[:40]!r} is not known here", 415)
    reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, by its first bytes
    try:
        found = reader.decompress(body, limit)
    except zlib.error as wrong:
        raise Malformed(f"the body cannot be unpacked: {wrong}") from None
    if reader.unconsumed_tail:
        raise Malformed(f"the body is longer than {limit} bytes (gateway.max_body_mib)", 413)
    return found
