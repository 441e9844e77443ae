"""``thunderctl bench gateway``: what the gateway costs, beside a direct call, nginx and a minimal FastAPI proxy.

A real daemon in a home of its own, before a stub upstream. Ratios per CPU second of the proxy are what to compare:
requests per second depend on who else uses the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.table import Table

from thunderctl.cli.show import AsJson, Ticker, out, print_json, ticker
from thunderctl.daemon.bench import Load, Measured
from thunderctl.errors import DaemonError, UsageError
from thunderctl.profile import Profile

BODIES = (4_000, 200_000)
PROGRAMS = 10_000
EVERY_MS = 20.0
"""Between two chunks of a stream."""
STREAM_CHUNKS = 50
RATE = 50.0
"""Requests per second at which the added latency is measured: far from saturation."""
START_S = 30.0
PEER_NAME = "FastAPI + httpx"

_NGINX = """
worker_processes 1; pid nginx.pid; error_log stderr crit; daemon off;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_max_body_size 0; client_body_buffer_size 1m; keepalive_requests 1000000;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 512; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{
    proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }}
}}
"""

_PEER = """
import sys, httpx, uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
upstream, port = sys.argv[1:]
app = FastAPI()
client = httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=2048, max_keepalive_connections=2048))
@app.post("/v1/chat/completions")
async def call(request: Request):
    body = await request.json()
    headers = {name: request.headers[name] for name in ("x-bench",) if name in request.headers}
    sent = client.build_request("POST", f"http://127.0.0.1:{upstream}/v1/chat/completions", json=body, headers=headers)
    answer = await client.send(sent, stream=True)
    if body.get("stream"):
        return StreamingResponse(answer.aiter_raw(), media_type="text/event-stream")
    data = await answer.aread()
    return Response(data, answer.status_code, media_type="application/json")
uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error", access_log=False, backlog=4096)
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a load goes. ``pids``: the proxy's processes; none for the direct way."""

    name: str
    port: int
    pids: tuple[int, ...]


def gateway(
    connections: Annotated[str, typer.Option(help="Connections at once, separated by commas.")] = "64,256",
    seconds: Annotated[float, typer.Option(min=0.2, help="How long each figure is measured.")] = 5.0,
    programs: Annotated[int, typer.Option(min=0, help="Programs that the scheduler knows meanwhile.")] = PROGRAMS,
    peer_python: Annotated[
        Path | None, typer.Option(help="An interpreter that has FastAPI, uvicorn and httpx, for the comparison.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What the gateway costs: requests per CPU second, added latency, CPU per streamed chunk.

    Examples:

        thunderctl bench gateway
        thunderctl bench gateway --seconds 10 --peer-python ~/peer/bin/python --json
    """
    try:
        counts = [int(part) for part in connections.split(",")]
    except ValueError:
        raise UsageError(f"--connections: {connections!r} is no list of numbers", hint="like 64,256") from None
    with ticker() as tell, contextlib.ExitStack() as stack:
        targets = _start_all(stack, programs, peer_python, tell)
        measured = _measure(targets, counts, seconds, tell)
    result = {"programs": programs, "seconds": seconds, "cpus": os.cpu_count(), **measured}
    if as_json:
        print_json(result)
    else:
        _show(result)


# ---------------------------------------------------------------------- what is measured


def _measure(targets: list[Target], counts: list[int], seconds: float, tell: Ticker) -> dict[str, Any]:
    throughput, latency, streams = [], [], []
    for size in BODIES:
        for count in counts:
            for target in targets:
                tell(f"{target.name}: {size // 1000} kB, {count} connections")
                got = _load(target, Load(target.port, count, seconds, size, list(target.pids)))
                throughput.append({"target": target.name, "body_bytes": size, "connections": count, **_row(got)})
    for size in BODIES:
        for target in targets:
            tell(f"{target.name}: {size // 1000} kB at {RATE:.0f} requests/s")
            got = _load(target, Load(target.port, 10, max(seconds, 2.0), size, list(target.pids), rate=RATE))
            latency.append({"target": target.name, "body_bytes": size, "rate": RATE, **_row(got)})
    for size in BODIES:
        for count in counts:
            for target in targets:
                tell(f"{target.name}: {count} streams, {size // 1000} kB bodies")
                load = Load(target.port, count, seconds, size, list(target.pids), STREAM_CHUNKS, EVERY_MS)
                got = _load(target, load)
                wanted = count * got.seconds * 1000 / EVERY_MS
                row = {
                    "target": target.name,
                    "body_bytes": size,
                    "streams": count,
                    "delivered_share": got.chunks / wanted,
                    "cpu_us_per_chunk": 1e6 * got.cpu_s / got.chunks if target.pids and got.chunks else None,
                    "errors": got.errors,
                }
                streams.append(row)
    _set_beside(throughput, latency)
    return {"throughput": throughput, "latency": latency, "streams": streams}


def _row(got: Measured) -> dict[str, Any]:
    has_cpu = got.cpu_s > 0 and got.requests > 0
    return {
        "requests_per_s": got.requests / got.seconds,
        "requests_per_cpu_s": got.requests / got.cpu_s if has_cpu else None,
        "cpu_us_per_request": 1e6 * got.cpu_s / got.requests if has_cpu else None,
        "median_ms": got.median_ms,
        "p99_ms": got.p99_ms,
        "errors": got.errors,
    }


def _set_beside(throughput: list[dict[str, Any]], latency: list[dict[str, Any]]) -> None:
    """Add what a target costs beside the direct call, and how often it does what the peer does per CPU second."""
    direct = {row["body_bytes"]: row for row in latency if row["target"] == "direct"}
    for row in latency:
        row["added_median_ms"] = row["median_ms"] - direct[row["body_bytes"]]["median_ms"]
        row["added_p99_ms"] = row["p99_ms"] - direct[row["body_bytes"]]["p99_ms"]
    peers = {
        (r["body_bytes"], r["connections"]): r["requests_per_cpu_s"] for r in throughput if r["target"] == PEER_NAME
    }
    for row in throughput:
        peer = peers.get((row["body_bytes"], row["connections"]))
        row["times_peer"] = row["requests_per_cpu_s"] / peer if peer and row["requests_per_cpu_s"] else None


def _load(target: Target, load: Load) -> Measured:
    done = subprocess.run(
        [sys.executable, "-m", "thunderctl.daemon.bench", "load", json.dumps(asdict(load))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise DaemonError(f"the load on {target.name} failed", details=done.stderr.splitlines()[-5:])
    return Measured(**json.loads(done.stdout))


# ---------------------------------------------------------------------- what is started


def _start_all(stack: contextlib.ExitStack, programs: int, peer: Path | None, tell: Ticker) -> list[Target]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="thunderctl-bench-")))
    tell("starting the stub upstream")
    upstream = stack.enter_context(_process([sys.executable, "-m", "thunderctl.daemon.bench", "upstream"], folder))
    assert upstream.stdout is not None  # noqa: S101 - a pipe
    port = int(upstream.stdout.readline())
    targets = [Target("direct", port, ())]
    tell("starting the daemon")
    ours = stack.enter_context(_daemon(folder, port))
    if programs:
        tell(f"making {programs:,} programs known")
        first = min(programs, 100)
        _load(ours, Load(ours.port, first, 0, 200, rounds=max(1, programs // first), first_program=1_000_000))
    targets.append(ours)
    if shutil.which("nginx"):
        free = _free_port()
        (folder / "nginx.conf").write_text(_NGINX.format(upstream=port, port=free))
        argv = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        targets.append(_proxy(stack, "nginx", argv, free, folder))
    if peer is not None:
        free = _free_port()
        targets.append(_proxy(stack, PEER_NAME, [str(peer), "-c", _PEER, str(port), str(free)], free, folder))
    return targets


def _proxy(stack: contextlib.ExitStack, name: str, argv: list[str], port: int, folder: Path) -> Target:
    process = stack.enter_context(_process(argv, folder))
    _wait_for(lambda: _listens(port), process, name)
    children = psutil.Process(process.pid).children(recursive=True)
    return Target(name, port, (process.pid, *(child.pid for child in children)))


@contextlib.contextmanager
def _process(argv: list[str], folder: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    with (folder / "output.log").open("a") as log:
        process = subprocess.Popen(
            argv, env={**os.environ, **env}, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()


@contextlib.contextmanager
def _daemon(folder: Path, upstream: int) -> Iterator[Target]:
    """A real daemon of its own, with its journal on disk, before the stub."""
    node = folder / "home" / "nodes" / "bench"
    (node / "logs").mkdir(parents=True)
    profile = Profile.model_validate(
        {
            "name": "bench",
            "engine": {"kind": "external"},
            "workers": {"urls": [f"http://127.0.0.1:{upstream}"]},
            "environments": {"backend": "local"},
        }
    )
    launch = {"profile": profile.model_dump(mode="json"), "engine": None, "model": None}
    (node / "launch.json").write_text(json.dumps(launch))
    argv = [sys.executable, "-m", "thunderctl.daemon", "bench"]
    with _process(argv, folder, THUNDERCTL_HOME=str(folder / "home")) as process:
        _wait_for(lambda: _health(node) == "ok", process, "the daemon")
        url = json.loads((node / "node.json").read_text())["url"]
        yield Target("thunderctl", int(url.rpartition(":")[2]), (process.pid,))


def _health(node: Path) -> str | None:
    try:
        url = json.loads((node / "node.json").read_text())["url"]
        with urllib.request.urlopen(url + "/health", timeout=2) as answer:  # noqa: S310 - our own loopback URL
            return str(json.load(answer)["status"])
    except (OSError, ValueError):
        return None


def _wait_for(true: Any, process: subprocess.Popen[str], name: str) -> None:
    end = time.monotonic() + START_S
    while not true():
        if process.poll() is not None or time.monotonic() > end:
            raise DaemonError(f"{name} did not start", hint="try without it")
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# ---------------------------------------------------------------------- what is shown


def _show(result: dict[str, Any]) -> None:
    table = Table("through", "body", "connections", "requests/s", "per CPU second", "CPU/request", "× peer", "p99")
    for row in result["throughput"]:
        table.add_row(
            row["target"], f"{row['body_bytes'] // 1000} kB", str(row["connections"]), f"{row['requests_per_s']:,.0f}",
            _or_dash(row["requests_per_cpu_s"], ",.0f"), _or_dash(row["cpu_us_per_request"], ".0f", " µs"),
            _or_dash(row["times_peer"], ".1f"), f"{row['p99_ms']:.1f} ms",
        )  # fmt: skip
    out.print(table)
    table = Table("through", "body", "median", "added", "p99", "added", title=f"at {RATE:.0f} requests/s")
    for row in result["latency"]:
        table.add_row(
            row["target"], f"{row['body_bytes'] // 1000} kB", f"{row['median_ms']:.2f} ms",
            f"{row['added_median_ms']:+.2f} ms", f"{row['p99_ms']:.2f} ms", f"{row['added_p99_ms']:+.2f} ms",
        )  # fmt: skip
    out.print(table)
    table = Table(
        "through", "body", "streams", "delivered", "CPU/chunk", title=f"streams, a chunk each {EVERY_MS:.0f} ms"
    )
    for row in result["streams"]:
        table.add_row(
            row["target"], f"{row['body_bytes'] // 1000} kB", str(row["streams"]), f"{row['delivered_share']:.1%}",
            _or_dash(row["cpu_us_per_chunk"], ".1f", " µs"),
        )  # fmt: skip
    out.print(table)


def _or_dash(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else format(value, form) + unit
