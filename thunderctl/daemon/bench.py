"""The two ends of the gateway benchmark, each a process of its own: a stub upstream, and a load on a proxy before it.

``python -m thunderctl.daemon.bench upstream`` prints its port and serves; ``… load {…}`` prints what it measured. Both
are raw protocols: what they cost themselves must not hide what is measured.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import cast

import psutil
import uvloop

CAPACITY_TOKENS = 100_000_000
"""KV capacity that the stub claims: every program of the benchmark keeps its place."""
METRICS = f'vllm:cache_config_info{{block_size="16",kv_cache_size_tokens="{CAPACITY_TOKENS}"}} 1.0\n'.encode()
USAGE = b'"usage":{"prompt_tokens":1000,"completion_tokens":50,"prompt_tokens_details":{"cached_tokens":900}}'
ANSWER = b'{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"content":"' + b"word " * 40 + b'"}}],'
CHUNK = b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"word"}}]}\n\n'
LAST_CHUNKS = b'data: {"id":"x","choices":[],' + USAGE + b"}\n\ndata: [DONE]\n\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


def _plain(body: bytes, kind: bytes = b"application/json") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(body), body)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


PLAIN = {
    b"/health": _plain(b"{}"),
    b"/metrics": _plain(METRICS, b"text/plain"),
    b"/v1/models": _plain(b'{"data":[{"id":"small","max_model_len":1000000}]}'),
}


class Upstream(asyncio.Protocol):
    """Answers at once; streams ``chunks`` content events, one each ``every_ms`` (both read off ``X-Bench``)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            lower = head.lower()
            size = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")
            if len(self._buffer) < end + 4 + size:
                return
            del self._buffer[: end + 4 + size]
            self._answer(head.split(b" ", 2)[1], lower)

    def _answer(self, path: bytes, head: bytes) -> None:
        assert self._transport is not None  # noqa: S101 - it has just sent something
        told = head.partition(b"x-bench:")[2].partition(b"\r\n")[0].split()
        if not told:
            self._transport.write(PLAIN.get(path) or _plain(ANSWER + USAGE + b"}"))
            return
        self._transport.write(STREAM_HEAD)
        self._stream(int(told[0]), float(told[1]) / 1000, time.monotonic())

    def _stream(self, left: int, every_s: float, due: float) -> None:
        if self._transport is None:
            return
        if left == 0:
            self._transport.write(_chunk(LAST_CHUNKS) + b"0\r\n\r\n")
            return
        self._transport.write(_chunk(CHUNK))
        due += every_s
        asyncio.get_running_loop().call_later(max(0.0, due - time.monotonic()), self._stream, left - 1, every_s, due)


async def serve_upstream() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


@dataclass(slots=True)
class Load:
    """What to send and for how long. ``pids``: processes whose CPU time is the proxy's."""

    port: int
    connections: int
    seconds: float
    body_bytes: int
    pids: list[int] = field(default_factory=list)
    chunks: int = 0
    """Content events of each streamed answer; 0 asks for plain answers."""
    every_ms: float = 0.0
    rate: float = 0.0
    """Requests a second in all; 0: each connection sends as soon as it was answered."""
    first_program: int = 0
    rounds: int = 0
    """Stop after so many requests on each connection, with a new program for each; 0: after ``seconds``."""


@dataclass(slots=True)
class Measured:
    """Seconds are wall-clock unless named otherwise."""

    requests: int
    chunks: int
    errors: int
    seconds: float
    cpu_s: float
    median_ms: float
    p99_ms: float


class _Client(asyncio.Protocol):
    """One connection of the load, one request at a time."""

    def __init__(self, run: _Run, index: int) -> None:
        self._run = run
        self._index = index
        self._transport: asyncio.Transport | None = None
        self._sent = 0.0
        self._left: int | None = None
        self._head = bytearray()
        self._in_body = False
        self.rounds = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._run.ended(self._index)

    def send(self) -> None:
        if self._transport is not None:
            self._sent = time.perf_counter()
            self._transport.write(self._run.request(self._index, self.rounds))
            self.rounds += 1

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = bytes(self._head[:end]).lower(), bytes(self._head[end + 4 :])
            self._head.clear()
            self._in_body = True
            size = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._left = int(size) if size else None
            if not head.startswith(b"http/1.1 200"):
                self._run.errors += 1
        self._run.chunks += data.count(b'"delta"')
        if self._left is not None:
            self._left -= len(data)
            complete = self._left <= 0
        else:
            complete = data.endswith(b"0\r\n\r\n")
        if complete:
            self._in_body = False
            self._run.answered(self._index, time.perf_counter() - self._sent)


class _Run:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._clients: list[_Client] = []
        self._latencies: list[float] = []
        self._stopping = False
        self._alive = 0
        self._done = asyncio.Event()
        self.chunks = self.errors = 0
        text = "x" * max(0, load.body_bytes - 120)
        self._body = f'"model":"small","messages":[{{"role":"user","content":"{text}"}}]'
        self._more = f"X-Bench: {load.chunks} {load.every_ms}\r\n" if load.chunks else ""

    def request(self, index: int, number: int) -> bytes:
        program = self._load.first_program + index
        if self._load.rounds:
            program += number * self._load.connections
        stream = ',"stream":true' if self._load.chunks else ""
        body = f'{{"program_id":"bench-{program}",{self._body}{stream}}}'
        return (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"{self._more}Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    def answered(self, index: int, seconds: float) -> None:
        self._latencies.append(seconds)
        client = self._clients[index]
        if self._stopping or (self._load.rounds and client.rounds == self._load.rounds):
            self.ended(index)
        elif self._load.rate:
            asyncio.get_running_loop().call_later(self._load.connections / self._load.rate, client.send)
        else:
            client.send()

    def ended(self, index: int) -> None:
        self._alive -= 1
        if self._alive <= 0:
            self._done.set()

    def _cpu(self) -> float:
        times = [psutil.Process(pid).cpu_times() for pid in self._load.pids]
        return sum(t.user + t.system for t in times)

    async def measure(self) -> Measured:
        loop = asyncio.get_running_loop()
        load = self._load
        for index in range(load.connections):
            _, client = await loop.create_connection(lambda index=index: _Client(self, index), "127.0.0.1", load.port)  # type: ignore[misc]
            self._clients.append(client)
        self._alive = load.connections
        gap = 1 / load.rate if load.rate else load.every_ms / 1000 / load.connections
        for index, client in enumerate(self._clients):
            loop.call_later(index * gap, client.send)
        if not load.rounds:
            await asyncio.sleep(min(1.0, load.seconds / 4))  # until every connection is at work
        self._latencies.clear()
        self.chunks = self.errors = 0
        began, cpu = time.perf_counter(), self._cpu()
        if load.rounds:
            await self._done.wait()
        else:
            await asyncio.sleep(load.seconds)
        took, spent = time.perf_counter() - began, self._cpu() - cpu
        found, chunks, errors = sorted(self._latencies), self.chunks, self.errors
        self._stopping = True
        return Measured(
            requests=len(found),
            chunks=chunks,
            errors=errors,
            seconds=took,
            cpu_s=spent,
            median_ms=1000 * statistics.median(found) if found else 0.0,
            p99_ms=1000 * found[int(0.99 * (len(found) - 1))] if found else 0.0,
        )


def main(role: str, told: str) -> None:
    if role == "upstream":
        uvloop.run(serve_upstream())
        return

    async def measure() -> Measured:
        return await _Run(Load(**json.loads(told))).measure()

    sys.stdout.write(json.dumps(asdict(uvloop.run(measure()))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "{}")
