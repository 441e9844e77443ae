"""aiohttp's application behind our own door: each request gets a server protocol of aiohttp's, and a connection lent.

aiohttp closes what it was lent once the answer is out; the connection itself goes on if the answer was whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from thunderctl.daemon.http11 import Head


def whole(head: Head, body: bytes) -> bytes:
    """The request again, its body in one piece."""
    framing = (b"content-length", b"transfer-encoding", b"expect")
    lines = [b"%b: %b\r\n" % pair for pair in head.raw_headers if pair[0].lower() not in framing]
    start = f"{head.method} {head.target} HTTP/1.{0 if head.http10 else 1}\r\n".encode("latin-1")
    return start + b"".join(lines) + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Guest(RequestHandler):
    """aiohttp's server protocol, for one request."""

    __slots__ = ("keeps_alive",)

    def __init__(self, server: web.Server) -> None:
        # Whatever is left of a body is here already: there is nothing to linger for.
        super().__init__(server, loop=asyncio.get_running_loop(), access_log=None, lingering_time=0)  # type: ignore[arg-type]
        self.keeps_alive = False
        """The answer went out whole, and said that the connection stays."""

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        found = await super().finish_response(request, resp, start_time)
        self.keeps_alive = bool(found[0].keep_alive) and not found[1]
        self.close()
        return found


class Lent(asyncio.Transport):
    """A connection as a guest sees it: closing it ends the guest's visit."""

    def __init__(
        self, end: Callable[[bool], None], transport: asyncio.Transport, guest: Guest, *, keep_alive: bool
    ) -> None:
        super().__init__()
        self._end = end
        self._transport = transport
        self._guest = guest
        self._keep_alive = keep_alive
        self._closed = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._closed or self._transport.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closed:
            self._transport.write(data)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """The request is here already."""

    def resume_reading(self) -> None:
        """The request is here already."""

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        asyncio.get_running_loop().call_soon(self._guest.connection_lost, None)
        self._end(self._keep_alive and self._guest.keeps_alive)

    def abort(self) -> None:
        self._closed = True
        self._transport.abort()
