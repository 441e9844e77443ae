"""HTTP/1.1 as bytes: heads of requests and answers, and the chunked coding. No sockets, no meaning of paths.

Strict where a request could be read in two ways: what this refuses cannot hide a second request from somebody else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from multidict import CIMultiDict

HEAD_LIMIT = 64 * 1024
"""Bytes of a start line and headers at most."""
LINE_LIMIT = 4096
"""Bytes of a chunk's size line, or of its trailers, at most."""
Headers = Iterable[tuple[str, str]]

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"[!-~\x80-\xff]+")
_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
_WITHOUT_BODY = (204, 304)


class Malformed(ValueError):
    """A request that is not served, with the ``status`` that says why."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class Head:
    """What stands before a request's body."""

    method: str
    target: str
    """Path and query as they were sent."""
    raw_headers: list[tuple[bytes, bytes]]
    headers: CIMultiDict[str]
    length: int
    """Bytes of the body, unless it is ``chunked``."""
    chunked: bool
    keep_alive: bool
    http10: bool
    """The client knows neither chunks nor ``100 Continue``."""
    expects: bool
    """It waits for ``100 Continue`` before it sends its body."""


def parse_head(data: bytes) -> Head:
    """``data``: everything before the empty line. Raises :class:`Malformed`."""
    first, *lines = data.split(b"\r\n")
    ends = len(lines)
    if b"\0" in data or data.count(b"\n") != ends or data.count(b"\r") != ends:
        raise Malformed("a line of the request's head does not end in CRLF")
    start = first.split(b" ")
    if len(start) != 3 or not _TOKEN.fullmatch(start[0]) or not _TARGET.fullmatch(start[1]):
        raise Malformed("the request's first line is not METHOD TARGET HTTP/1.1")
    if start[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Malformed("only HTTP/1.1 is spoken here", 505)
    raw = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):
            raise Malformed(f"a header is not NAME: VALUE: {line[:40]!r}")
        raw.append((name, value.strip(b" \t")))
    headers = CIMultiDict((name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in raw)
    http10 = start[2] == b"HTTP/1.0"
    length, chunked = _framing(headers, http10)
    connection = headers.get("Connection", "").lower()
    return Head(
        method=start[0].decode(),
        target=start[1].decode("latin-1"),
        raw_headers=raw,
        headers=headers,
        length=length,
        chunked=chunked,
        keep_alive="keep-alive" in connection if http10 else "close" not in connection,
        http10=http10,
        expects=not http10 and headers.get("Expect", "").lower() == "100-continue",
    )


def _framing(headers: CIMultiDict[str], http10: bool) -> tuple[int, bool]:
    """How long the body is: (bytes, whether it comes in chunks instead)."""
    lengths = headers.getall("Content-Length", ())
    codings = headers.getall("Transfer-Encoding", ())
    if codings:
        if lengths or http10 or len(codings) > 1:
            raise Malformed("the length of the body is told in more than one way")
        if codings[0].lower() != "chunked":
            raise Malformed(f"Transfer-Encoding {codings[0][:40]!r} is not known here", 501)
        return 0, True
    if not lengths:
        return 0, False
    if len(lengths) > 1 or not (lengths[0].isascii() and lengths[0].isdigit() and len(lengths[0]) < 20):
        raise Malformed("Content-Length is not one number")
    return int(lengths[0]), False


def answer_head(status: int, headers: Headers, *, length: int | None = None, close: bool = False) -> bytes:
    """Status line and headers with the empty line. ``length``: bytes of the body; ``None``: it comes in chunks.

    With ``close`` and no length the body ends with the connection. A header that holds the end of a line is left out.
    """
    lines = [_STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    if close:
        lines.append("Connection: close\r\n")
    if length is not None:
        if status not in _WITHOUT_BODY:
            lines.append(f"Content-Length: {length}\r\n")
    elif not close:
        lines.append("Transfer-Encoding: chunked\r\n")
    found = "".join(lines)
    if found.count("\n") != len(lines) or found.count("\r") != len(lines):
        found = "".join(line for line in lines if line.count("\n") == line.count("\r") == 1)
    return found.encode("latin-1", "replace") + b"\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def _size(line: bytes) -> int:
    """Bytes of a chunk; Python would take signs and underscores for parts of a number."""
    if not _CHUNK_SIZE.fullmatch(line):
        raise Malformed("a chunk comes without a size")
    return int(line, 16)


class Chunked:
    """Takes the chunked coding off a body as it arrives. ``rest``, once ``complete``: what came behind it."""

    __slots__ = ("complete", "rest", "_tail", "_left", "_in_trailers")

    def __init__(self) -> None:
        self.complete = False
        self.rest = b""
        self._tail = b""
        """The beginning of a line that has not ended yet."""
        self._left = 0
        """Bytes still to come of the present chunk, the CRLF behind it included."""
        self._in_trailers = False

    def feed(self, data: bytes) -> bytes:
        """What ``data`` holds of the body. Raises :class:`Malformed`."""
        if self._tail:
            data, self._tail = self._tail + data, b""
        if not self._left and not self._in_trailers and data[-2:] == b"\r\n":
            # One whole chunk, as servers send their events: the loop below would take three times as long.
            line_end = data.find(b"\r\n")
            if data[:line_end].isalnum() and 0 < _size(data[:line_end]) == len(data) - line_end - 4:
                return data[line_end + 2 : -2]
        found: list[bytes] = []
        at, end = 0, len(data)
        while at < end and not self.complete:
            if self._left:
                at = self._take_data(data, at, end, found)
                continue
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                self._tail = data[at:]
                if len(self._tail) > LINE_LIMIT:
                    raise Malformed(f"a line between chunks is longer than {LINE_LIMIT} bytes")
                break
            line, at = data[at:line_end], line_end + 2
            if b"\n" in line or b"\r" in line:
                raise Malformed("a line between chunks does not end in CRLF")
            if self._in_trailers:
                self.complete = not line
                continue
            size = _size(line.partition(b";")[0].rstrip(b" \t"))
            if size:
                self._left = size + 2
            else:
                self._in_trailers = True
        if self.complete:
            self.rest = data[at:]
        return found[0] if len(found) == 1 else b"".join(found)

    def _take_data(self, data: bytes, at: int, end: int, found: list[bytes]) -> int:
        """Take what there is of the present chunk; where to go on."""
        if self._left > 2:
            taken = min(self._left - 2, end - at)
            found.append(data[at : at + taken])
        else:
            taken = min(self._left, end - at)
            if data[at : at + taken] != b"\r\n"[2 - self._left : 2 - self._left + taken]:
                raise Malformed("a chunk is longer than it said")
        self._left -= taken
        return at + taken
