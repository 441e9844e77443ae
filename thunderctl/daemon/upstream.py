"""One set of connections per worker, and what of a request's and an answer's headers may cross it."""

from __future__ import annotations

from collections.abc import Iterable

from thunderctl.daemon.wire import Answer, Connections
from thunderctl.profile import GatewaySpec

HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
        "upgrade", "content-length",
    }
)  # fmt: skip
_NOT_BACK = HOP_BY_HOP | {"x-thunderctl-worker", "x-thunderctl-held-ms", "x-thunderctl-weights"}
_NOT_ON = frozenset(
    name.encode()
    # A body that came compressed is unpacked by now, and answers must not be packed: their usage is read.
    for name in (*HOP_BY_HOP, "host", "expect", "content-type", "content-encoding", "accept-encoding",
                 "x-thunderctl-token", "x-thunderctl-call")
)  # fmt: skip
_NOT_ON_WITH_KEY = _NOT_ON | {b"authorization"}


def request_headers(headers: Iterable[tuple[bytes, bytes]], *, own_key: bool) -> bytes:
    """Header lines for the worker: all that are not of this hop; the key is left out if it was for us (``own_key``)."""
    left_out = _NOT_ON_WITH_KEY if own_key else _NOT_ON
    kept = [b"%b: %b\r\n" % (name, value) for name, value in headers if name.lower() not in left_out]
    return b"".join(kept) + b"Content-Type: application/json\r\n"


def response_headers(answer: Answer) -> list[tuple[str, str]]:
    """Headers for the client; what we add ourselves no worker can say."""
    return [(name, value) for name, value in answer.headers if name not in _NOT_BACK]


class Upstreams:
    """Connections by worker name; each has its own limit, so a slow worker cannot starve another."""

    def __init__(self, spec: GatewaySpec) -> None:
        self._spec = spec
        self._workers: dict[str, Connections] = {}
        self._turn = 0

    def add(self, worker: str, url: str) -> None:
        self._workers[worker] = Connections(
            url,
            limit=self._spec.connections_per_worker,
            connect_timeout_s=self._spec.connect_timeout_s,
            silence_s=self._spec.read_timeout_s,
        )

    async def remove(self, worker: str) -> None:
        connections = self._workers.pop(worker, None)
        if connections is not None:
            connections.close()

    def get(self, worker: str) -> Connections | None:
        """``None`` if the worker is gone."""
        return self._workers.get(worker)

    def in_turn(self) -> list[Connections]:
        """Every worker once, beginning with another one each time."""
        found = list(self._workers.values())
        self._turn += 1
        start = self._turn % len(found) if found else 0
        return found[start:] + found[:start]

    @property
    def names(self) -> list[str]:
        return list(self._workers)

    async def close(self) -> None:
        for worker in self.names:
            await self.remove(worker)
