"""What there is to see at one moment, of a run or of a node: figures only, drawn elsewhere.

A picture is made from what is at hand and asks nobody: of a run from its ``Progress``, of a node from the daemon's
answers. Rates are those of the last minute, in the node's own seconds where time is emulated; elapsed and remaining
time are seconds on the wall.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from thunderctl.agents.rollout import Ending
from thunderctl.runs.driver import Progress

LATEST = 10
"""Agents that are shown: those that did something last."""
ERRORS = 5
"""Errors that are kept, the latest first; the rest is a number."""
WINDOW_S = 60.0
LEAST_WINDOW_S = 2.0
"""A rate over less says nothing."""
RUNNING = "running"
FAILED = "failed"


class Rollout(Protocol):
    """What a picture wants of an agent's rollout."""

    agent: str
    instance_id: str
    status: str
    error: str | None
    steps: int


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker's KV cache, in tokens. ``capacity`` is 0 until it is known."""

    name: str
    state: str
    reasoning: int
    acting: int
    capacity: int


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One of the agents that did something last; of a node, a program."""

    agent: str
    task: str
    state: str
    steps: int
    doing: str


@dataclass(frozen=True, slots=True)
class Programs:
    """What the scheduler has: programs by phase, how many of them are paused, calls that wait."""

    reasoning: int
    acting: int
    paused: int
    held_calls: int


@dataclass(frozen=True, slots=True)
class Rates:
    """Over the last ``over_s`` seconds of the node. Of tokens nothing is known until the daemon told of them twice, and
    there is no hit rate where nothing was prefilled."""

    over_s: float
    steps_per_min: float
    output_tokens_per_s: float | None
    hit_rate: float | None


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that a view shows. What is not known is ``None`` or empty."""

    about: tuple[str, ...]
    """What this is: workload, kind of model behaviour, engine, policy, profile."""
    phase: str
    """``working``, ``judging`` or ``ended``; of a node its status."""
    elapsed_s: float
    left_s: float | None = None
    share: float | None = None
    """Of the work that is done, 0 to 1."""
    steps: int = 0
    total_steps: int | None = None
    judged: int = 0
    agents: int | None = None
    """How many work at once."""
    rollouts: Mapping[str, int] = field(default_factory=dict)
    programs: Programs | None = None
    rates: Rates | None = None
    hit_rate: float | None = None
    """Of everything since the run began."""
    workers: Sequence[WorkerRow] = ()
    backend: str | None = None
    environments: Mapping[str, int] = field(default_factory=dict)
    """Leases by state."""
    disk_bytes: int | None = None
    error_count: int = 0
    errors: Sequence[str] = ()
    latest: Sequence[AgentRow] = ()
    notice: str | None = None


class Window:
    """The last minute of counters that only grow."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, tuple[int, ...]]] = deque()

    def add(self, at: float, counters: tuple[int, ...]) -> None:
        """A reading; one that is smaller than the last begins anew (the daemon was started again)."""
        if self._readings and any(now < then for now, then in zip(counters, self._readings[-1][1], strict=True)):
            self._readings.clear()
        self._readings.append((at, counters))
        while len(self._readings) > 2 and self._readings[1][0] <= at - WINDOW_S:
            self._readings.popleft()

    def grown(self) -> tuple[float, tuple[int, ...]] | None:
        """Seconds from the first to the last reading, and growth of each counter; ``None`` if too little is known."""
        if not self._readings:
            return None
        (began, first), (ended, last) = self._readings[0], self._readings[-1]
        if ended - began < LEAST_WINDOW_S:
            return None
        return ended - began, tuple(b - a for a, b in zip(first, last, strict=True))


def _counters(health: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Calls finished; prompt, cached and output tokens of them."""
    tally = health.get("tally", {})
    return (
        tally.get("finished", 0), tally.get("prompt_tokens", 0), tally.get("cached_tokens", 0),
        tally.get("output_tokens", 0),
    )  # fmt: skip


def _of_node(health: Mapping[str, Any], disk: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a picture that ``/health`` and ``/disk`` tell; none where they told nothing yet."""
    parts: dict[str, Any] = {"disk_bytes": disk.get("bytes_now")}
    if not health:
        return parts
    parts["programs"] = Programs(
        health.get("reasoning_count", 0), health.get("acting_count", 0), health.get("paused_count", 0),
        health.get("held_calls", 0),
    )  # fmt: skip
    parts["workers"] = [
        WorkerRow(
            w["name"], w["state"], w.get("reasoning_tokens") or 0, w.get("acting_tokens") or 0,
            w.get("capacity_tokens") or 0,
        )
        for w in health.get("workers", [])
    ]  # fmt: skip
    environments = health.get("environments", {})
    parts["backend"], parts["environments"] = environments.get("backend"), environments.get("leases") or {}
    return parts


def _words(*words: object) -> tuple[str, ...]:
    return tuple(str(word) for word in words if word)


def _engine(health: Mapping[str, Any]) -> str:
    """The engine, and how much slower than what it emulates it runs."""
    scale = health.get("time_scale", 1.0)
    kind = health.get("engine", "")
    return f"{kind} engine, time × {scale:g}" if scale != 1.0 else f"{kind} engine" if kind else ""


class RunLens:
    """Looks at a run. Each look costs as much as there are agents at work, however long the run is."""

    def __init__(self, progress: Progress, now: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._now = now
        self._steps, self._tally = Window(), Window()
        self._health: Mapping[str, Any] = {}
        self._at_first: tuple[int, ...] | None = None
        self._read = 0
        self._at_work: list[Ending] = []
        self._ended = Counter[str]()
        self._errors: deque[str] = deque(maxlen=ERRORS)
        self._error_count = 0

    def look(self) -> Picture:
        progress, now = self._progress, self._now()
        self._sort_rollouts()
        health: Mapping[str, Any] = getattr(progress, "health", None) or {}
        disk: Mapping[str, Any] = getattr(progress, "disk", None) or {}
        self._steps.add(now, (progress.steps,))
        if health and health is not self._health:
            self._health = health
            self._tally.add(now, _counters(health))
            self._at_first = self._at_first or _counters(health)
        elapsed = max(0.0, now - progress.began)
        share = self._share(elapsed)
        return Picture(
            about=_words(
                getattr(progress, "name", ""), getattr(progress, "kind", ""), _engine(health), health.get("policy"),
                health.get("profile"),
            ),
            phase=progress.phase,
            elapsed_s=elapsed,
            left_s=self._left(elapsed, share),
            share=share,
            steps=progress.steps,
            total_steps=progress.total_steps,
            judged=progress.judged,
            agents=progress.agents,
            rollouts=dict(self._ended + Counter(r.status for r in self._at_work)),
            rates=self._rates(health.get("time_scale", 1.0)),
            hit_rate=self._hit_rate(),
            error_count=self._error_count,
            errors=tuple(self._errors),
            latest=self._latest(),
            **_of_node(health, disk),
        )  # fmt: skip

    def _sort_rollouts(self) -> None:
        """Those that ended are counted once and not looked at again."""
        rollouts = self._progress.rollouts
        self._at_work += rollouts[self._read :]
        self._read = len(rollouts)
        for rollout in self._at_work:
            if rollout.status != RUNNING:
                self._ended[rollout.status] += 1
                if rollout.status == FAILED:
                    self._error_count += 1
                    self._errors.appendleft(f"{rollout.agent}: {rollout.error or 'failed'}")
        self._at_work = [rollout for rollout in self._at_work if rollout.status == RUNNING]

    def _share(self, elapsed: float) -> float | None:
        progress = self._progress
        if progress.phase == "judging":
            return min(1.0, progress.judged / progress.agents) if progress.agents else None
        if progress.duration_s is not None:
            return min(1.0, elapsed / progress.duration_s)
        return min(1.0, progress.steps / progress.total_steps) if progress.total_steps else None

    def _left(self, elapsed: float, share: float | None) -> float | None:
        progress = self._progress
        if progress.phase != "working":
            return None
        if progress.duration_s is not None:
            return max(0.0, progress.duration_s - elapsed)
        return elapsed / share * (1 - share) if share else None

    def _rates(self, scale: float) -> Rates | None:
        steps, tally = self._steps.grown(), self._tally.grown()
        if steps is None:
            return None
        per_s = tally[1][3] / tally[0] * scale if tally else None
        hits = tally[1][2] / tally[1][1] if tally and tally[1][1] else None
        return Rates(steps[0] / scale, 60 * steps[1][0] / steps[0] * scale, per_s, hits)

    def _hit_rate(self) -> float | None:
        if self._at_first is None:
            return None
        prompt, cached = (b - a for a, b in zip(self._at_first[1:3], _counters(self._health)[1:3], strict=True))
        return cached / prompt if prompt > 0 else None

    def _latest(self) -> list[AgentRow]:
        """Agents with their latest command, the last one first. Of an agent's rollouts the last one counts."""
        names = list(self._progress.latest)[: -LATEST - 1 : -1]
        by_name = {r.agent: r for r in self._progress.rollouts[-self._progress.agents * 2 :] if r.agent in names}
        by_name |= {r.agent: r for r in self._at_work}
        return [
            AgentRow(name, r.instance_id, r.status, r.steps, self._progress.latest[name])
            for name in names
            if (r := by_name.get(name)) is not None
        ]


class NodeLens:
    """Looks at a node, whoever drives it. It is told what the daemon answered, and looks at that."""

    def __init__(self) -> None:
        self._tally = Window()
        self._health: dict[str, Any] = {}
        self._programs: dict[str, dict[str, Any]] = {}
        self._disk: dict[str, Any] = {}
        self.notice: str | None = None

    def told(
        self, at: float, health: dict[str, Any], programs: dict[str, dict[str, Any]], disk: dict[str, Any]
    ) -> None:
        """What the daemon answered ``at`` a moment (monotonic seconds)."""
        self._health, self._programs, self._disk, self.notice = health, programs, disk, None
        self._tally.add(at, _counters(health))

    def look(self) -> Picture:
        health = self._health
        finished, prompt, cached, _ = _counters(health)
        tally = health.get("tally", {})
        return Picture(
            about=_words(
                f"node {health.get('node', '')}", _engine(health), health.get("policy"), health.get("profile")
            ),
            phase=health.get("status", "unknown"),
            elapsed_s=health.get("uptime_s", 0.0),
            steps=finished,
            rates=self._rates(health.get("time_scale", 1.0)),
            hit_rate=cached / prompt if prompt else None,
            error_count=tally.get("failed", 0) + tally.get("rejected", 0),
            latest=self._latest(),
            notice=self.notice,
            **_of_node(health, self._disk),
        )

    def _rates(self, scale: float) -> Rates | None:
        grown = self._tally.grown()
        if grown is None:
            return None
        over, (steps, prompt, cached, output) = grown
        return Rates(
            over / scale, 60 * steps / over * scale, output / over * scale, cached / prompt if prompt else None
        )

    def _latest(self) -> list[AgentRow]:
        """The programs whose phase changed last; ours are named after their run."""
        rows = sorted(self._programs.items(), key=lambda item: item[1]["in_phase_s"])[:LATEST]
        return [
            AgentRow(
                name.rpartition("/")[2], name.rpartition("/")[0],
                p["state"] if p["state"] == "paused" else p["status"], p["step_count"],
                f"{p['backend'] or 'no worker'}, {p['total_tokens']:,} tokens, {p['pauses']} pauses",
            )
            for name, p in rows
        ]  # fmt: skip
