"""What the node is doing right now, for whoever watches: one picture a second, the same for everybody.

Pictures are made only while somebody watches. A listener has no queue: it is sent the latest picture when it has taken
the one before, so one that is slow misses some, and one that is gone costs nothing.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import Counter, deque
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from thunderctl import __version__
from thunderctl.core.program import Phase, Program, Status
from thunderctl.daemon.door import web_error as error
from thunderctl.daemon.metrics import faded_acting
from thunderctl.daemon.shell import Shell, Tally
from thunderctl.errors import ThunderError

if TYPE_CHECKING:
    from thunderctl.daemon.node import Node

log = logging.getLogger("thunderctl.live")

EVERY_S = 1.0
"""Seconds on the wall between two pictures."""
WINDOW_S = 60.0
"""Rates are means over so many seconds on the wall, or since the node began."""
LATEST = 10
"""Programs that a picture names."""
LONGEST = 5
"""Waiting programs that a picture names."""
TROUBLES = 10
"""Latest refusals and warnings that a picture names."""
DISK_EVERY_S = 5.0
"""Measuring the disk means looking at folders, so it goes on beside and is not waited for."""
MOST_LISTENERS = 64
PATIENCE_S = 30.0
"""A listener that takes nothing for so long is cut off."""


class Live:
    """Pictures of one node, and the streams of those who watch."""

    def __init__(self, node: Node, troubles: deque[dict[str, Any]]) -> None:
        self._node = node
        self._troubles = troubles
        self._past: deque[tuple[float, dict[str, float]]] = deque(maxlen=round(WINDOW_S / EVERY_S) + 1)
        self._picture = b""
        self._number = 0
        self._drawn = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._measuring: asyncio.Task[None] | None = None
        self._disk: dict[str, Any] | None = None
        self._measured = -DISK_EVERY_S
        self.listeners = 0

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/live", self.once), web.get("/live/events", self.events)]

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_drawing())

    async def close(self) -> None:
        """End every stream, so that nobody keeps the door open."""
        self._closed = True
        self._drawn.set()
        tasks = [task for task in (self._task, self._measuring) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_drawing(self) -> None:
        while True:
            self._past.append((time.monotonic(), _counted(self._node.shell.tally)))
            if self.listeners:
                try:
                    self._picture = msgspec.json.encode(self.picture())
                except Exception:
                    log.exception("no picture of the node could be made")
                self._number += 1
                drawn, self._drawn = self._drawn, asyncio.Event()
                drawn.set()
            await asyncio.sleep(EVERY_S)

    # ------------------------------------------------------------------ answers

    async def once(self, request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self.picture()), content_type="application/json")

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events, one picture each; the stream ends with the node, or with the listener's patience."""
        if self.listeners >= MOST_LISTENERS:
            return error(503, f"{MOST_LISTENERS} listeners watch already", "overloaded_error", 10)
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        await response.prepare(request)
        self.listeners += 1
        try:
            picture, seen = msgspec.json.encode(self.picture()), self._number
            while not self._closed:
                async with asyncio.timeout(PATIENCE_S):  # a write waits once some 128 KiB lie here unsent
                    await response.write(b"event: picture\ndata: " + picture + b"\n\n")
                if seen == self._number:
                    await self._drawn.wait()
                picture, seen = self._picture, self._number
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self.listeners -= 1
        return response

    # ------------------------------------------------------------------ the picture

    def picture(self) -> dict[str, Any]:
        """Everything that is shown at one glance, as JSON. Times are seconds of the node's own clock."""
        node, shell = self._node, self._node.shell
        environments = node.environment_summary()
        programs = shell.scheduler.programs.values()
        waiting = [p for p in programs if p.paused_since is not None]
        now = shell.now()
        return {
            "version": __version__,
            "at": time.time(),
            "node": node.name,
            "profile": node.profile.name,
            "policy": node.profile.scheduler.policy,
            "engine": node.profile.engine.kind,
            "time_scale": node.profile.time_scale,
            "state": node.state,
            "phase": node.progress,
            "listeners": self.listeners,
            "uptime_s": round(time.monotonic() - node.started, 1),
            "programs": {"total": len(programs), **_states(programs)},
            "rates": self._rates(),
            "tally": asdict(shell.tally),
            "workers": self.workers(),
            "queue": {
                "programs": len(waiting),
                "held_calls": shell.held_calls,
                "longest": [
                    {
                        "program": p.id,
                        "tokens": p.tokens,
                        "waiting_s": round(max(0.0, now - (p.paused_since or now)), 1),
                    }
                    for p in heapq.nsmallest(LONGEST, waiting, key=lambda p: p.paused_since or 0.0)
                ],
            },
            "environments": {**environments, "disk": self.disk()},
            "latest": [
                {
                    "program": p.id,
                    "status": p.status.value,
                    "phase": p.phase.value,
                    "worker": p.worker,
                    "tokens": p.tokens,
                    "steps": p.steps,
                    "pauses": p.pauses,
                    "in_phase_s": round(max(0.0, now - p.since), 1),
                    "tool": p.tool if p.phase is Phase.ACTING and not p.tool_ended else "",
                }
                for p in heapq.nlargest(LATEST, programs, key=lambda p: p.since)
            ],
            "troubles": _latest_troubles(shell, self._troubles),
        }

    def _rates(self) -> dict[str, float | None]:
        """Over the last ``WINDOW_S``: steps a minute, tokens a second of the node's clock, and the cache's hit rate."""
        now, counts = time.monotonic(), _counted(self._node.shell.tally)
        then, before = self._past[0] if self._past else (now, counts)
        seconds = (now - then) / self._node.profile.time_scale
        gone = {name: max(0.0, counts[name] - before[name]) for name in counts}
        return {
            "window_s": round(seconds, 1),
            "steps_per_min": round(60 * gone["finished"] / seconds, 2) if seconds else 0.0,
            "prompt_tokens_per_s": round(gone["prompt_tokens"] / seconds, 1) if seconds else 0.0,
            "output_tokens_per_s": round(gone["output_tokens"] / seconds, 1) if seconds else 0.0,
            "hit_rate": round(gone["cached_tokens"] / gone["prompt_tokens"], 4) if gone["prompt_tokens"] else None,
        }

    def workers(self) -> list[dict[str, Any]]:
        """A row a worker: how full it is by the ledger, and what its engine said last."""
        node, now = self._node, self._node.shell.now()
        latest = {sample["worker"]: sample for sample in _tail(node.probe.samples, 4 * node.fleet.count)}
        rows = []
        for row in node.worker_rows():
            ledger = node.shell.scheduler.workers.get(row["name"])
            sample = latest.get(row["name"])
            rows.append(
                {
                    **{key: row[key] for key in ("name", "state", "model", "capacity_tokens", "programs")},
                    "reasoning_tokens": row["reasoning_tokens"],
                    "acting_tokens": row["acting_tokens"],
                    "faded_acting_tokens": round(faded_acting(ledger, now)) if ledger else 0,
                    "engine_running": sample["engine"]["running"] if sample else None,
                    "engine_waiting": sample["engine"]["waiting"] if sample else None,
                    "engine_kv_usage": sample["engine"]["kv_usage"] if sample else None,
                }
            )
        return rows

    def disk(self) -> dict[str, Any] | None:
        """What environments held when it was measured last; begins another measurement if that is a while ago."""
        idle = self._measuring is None or self._measuring.done()
        due = time.monotonic() - self._measured >= DISK_EVERY_S
        if idle and due and not self._closed and self._node.environment_summary()["backend"] is not None:
            self._measuring = asyncio.create_task(self._measure())
        return self._disk

    async def _measure(self) -> None:
        try:
            self._disk = asdict(await self._node.environments.disk_usage())
        except ThunderError as failure:
            log.debug("the disk was not measured: %s", failure.message)
        self._measured = time.monotonic()


def _counted(tally: Tally) -> dict[str, float]:
    return {name: getattr(tally, name) for name in ("finished", "prompt_tokens", "cached_tokens", "output_tokens")}


def _states(programs: Any) -> dict[str, int]:
    """Programs by what a person would say that they do; ``waiting``: paused, with a call that waits."""
    found: Counter[str] = Counter(_state(program) for program in programs)
    return {name: found[name] for name in ("reasoning", "acting", "waiting", "paused")}


def _state(program: Program) -> str:
    if program.status is Status.ACTIVE:
        return program.phase.value
    return "waiting" if program.phase is Phase.REASONING else "paused"


def _tail(records: deque[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The last ``count`` of them, oldest first; from the end, since a deque is slow in its middle."""
    found: list[dict[str, Any]] = []
    for record in reversed(records):
        if len(found) == count:
            break
        found.append(record)
    return found[::-1]


def _latest_troubles(shell: Shell, warned: deque[dict[str, Any]]) -> list[dict[str, Any]]:
    """What went wrong last, newest first: warnings of the log, and calls that the scheduler refused."""
    refused = [
        {
            "at": told["at"],
            "level": "warning",
            "text": f"{told['program']}: refused ({told['status']}): {told['reason']}",
        }
        for told in islice(reversed(shell.decisions), 500)
        if told["effect"] == "Reject"
    ]
    return sorted([*warned, *refused], key=lambda trouble: -trouble["at"])[:TROUBLES]
