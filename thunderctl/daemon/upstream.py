"""One pooled HTTP connection set per worker, and what of a request and an answer may cross it."""

from __future__ import annotations

import aiohttp
import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from thunderctl.profile import GatewaySpec

HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
        "upgrade", "host", "content-length", "content-encoding", "accept-encoding", "expect",
    }
)  # fmt: skip

CONNECTION_FAILED = (
    aiohttp.ClientConnectionError,
    aiohttp.ClientPayloadError,
    aiohttp.http_exceptions.HttpProcessingError,
    TimeoutError,
)
"""What a worker that is gone, or hangs up, looks like from here."""


class Usage(msgspec.Struct):
    """Token counts of one answer, as the engine states them."""

    prompt_tokens: int = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: dict[str, object] | None = None

    @property
    def cached_tokens(self) -> int:
        cached = (self.prompt_tokens_details or {}).get("cached_tokens")
        return cached if isinstance(cached, int) else 0


class _Answer(msgspec.Struct):
    usage: Usage | None = None
    choices: list[msgspec.Raw] = msgspec.field(default_factory=list)


_decoder = msgspec.json.Decoder(_Answer)


def usage_of(answer: bytes) -> Usage | None:
    """The ``usage`` of a JSON answer; ``None`` if it has none or is no such JSON."""
    try:
        return _decoder.decode(answer).usage
    except msgspec.MsgspecError:
        return None


class UsageFilter:
    """Reads token counts out of a server-sent event stream, and takes the usage event out if nobody asked for it.

    Bytes pass through unchanged otherwise. Whole events are looked at only when they contain ``"usage"``.
    """

    def __init__(self, *, keep: bool) -> None:
        self.usage: Usage | None = None
        self.tokens = 0
        """Content events so far: the engine sends about one for each token."""
        self._keep = keep
        self._tail = b""

    def feed(self, chunk: bytes) -> bytes:
        """What to pass on of the stream so far; an unfinished event is kept back until it is whole."""
        data = self._tail + chunk
        end = data.rfind(b"\n\n")
        if end < 0:
            self._tail = data
            return b""
        whole, self._tail = data[: end + 2], data[end + 2 :]
        self.tokens += whole.count(b"data: ")
        if b'"usage"' not in whole:
            return whole
        passed = []
        for event in whole.split(b"\n\n")[:-1]:
            if b'"usage"' in event and self._take(event):
                continue
            passed.append(event + b"\n\n")
        return b"".join(passed)

    def _take(self, event: bytes) -> bool:
        """Read the event's usage; true if it is to be left out."""
        try:
            answer = _decoder.decode(event.removeprefix(b"data: "))
        except msgspec.MsgspecError:
            return False
        if answer.usage is None:
            return False
        self.usage = answer.usage
        return not self._keep and not answer.choices

    def rest(self) -> bytes:
        """An event that the stream left unfinished."""
        return self._tail


def request_headers(headers: CIMultiDictProxy[str], *, own_key: bool) -> CIMultiDict[str]:
    """Headers for the worker: all that are not of this hop; the key is left out if it was for us (``own_key``)."""
    kept = CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in HOP_BY_HOP)
    if own_key:
        kept.popall("Authorization", None)
    kept["Content-Type"] = "application/json"
    return kept


def response_headers(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in HOP_BY_HOP)


class Upstreams:
    """Sessions by worker name; each has its own connection limit, so a slow worker cannot starve another."""

    def __init__(self, spec: GatewaySpec) -> None:
        self._spec = spec
        self._sessions: dict[str, tuple[str, aiohttp.ClientSession]] = {}

    def add(self, worker: str, url: str) -> None:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._spec.connect_timeout_s, sock_read=self._spec.read_timeout_s
        )
        connector = aiohttp.TCPConnector(limit=self._spec.connections_per_worker, keepalive_timeout=30)
        session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        self._sessions[worker] = (url, session)

    async def remove(self, worker: str) -> None:
        entry = self._sessions.pop(worker, None)
        if entry is not None:
            await entry[1].close()

    def get(self, worker: str) -> tuple[str, aiohttp.ClientSession] | None:
        """Base URL and session; ``None`` if the worker is gone."""
        return self._sessions.get(worker)

    @property
    def names(self) -> list[str]:
        return list(self._sessions)

    async def close(self) -> None:
        for worker in list(self._sessions):
            await self.remove(worker)
