"""A run over time, as numbers: what its page draws. Computed from the same records as the figures, and drawn nowhere.

Times are seconds since the run began (emulated ones where time is). Whatever is summed into buckets says how wide they
are; lines that were sampled keep at most ``POINTS`` points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from thunderctl.report.stats import RunRecords, last_words, ratio, window_of

BUCKETS = 60
"""Of things that are counted over time, at most."""
STRETCHES = 30
"""Of KV space × time: calls are booked when they end, so shorter ones would jump."""
POINTS = 300
"""Of a line."""
USES = ("decode", "prefill", "recompute", "caching", "unused")
"""Of KV space × time, in the order in which they are stacked."""
SEGMENTS = 60_000
"""A timeline has no more than this; the programs that began last are left out."""

Line = tuple[list[float], list[float]]
"""Seconds, and a value at each."""


@dataclass(slots=True)
class Program:
    """One program's time: spans of seconds in which it was in a state. Pauses may overlap acting."""

    name: str
    task: str
    status: str
    began: float
    ended: float
    placed: float
    """When it first got a place on a worker."""
    steps: int = 0
    reasoning: list[tuple[float, float]] = field(default_factory=list)
    acting: list[tuple[float, float]] = field(default_factory=list)
    waiting: list[tuple[float, float]] = field(default_factory=list)
    """A call of it was held by the scheduler."""
    paused: list[tuple[float, float]] = field(default_factory=list)
    """From a pause to the restore."""

    @property
    def paused_s(self) -> float:
        return sum(end - begin for begin, end in self.paused)

    @property
    def spans(self) -> int:
        return len(self.reasoning) + len(self.acting) + len(self.waiting) + len(self.paused)


@dataclass(frozen=True, slots=True)
class Over:
    """Counts in buckets of ``width`` seconds from ``began`` on."""

    began: float
    width: float
    values: list[float]

    @property
    def at(self) -> list[float]:
        """The middle of each bucket."""
        return [round(self.began + (n + 0.5) * self.width, 3) for n in range(len(self.values))]


def name_of(record: dict[str, Any]) -> str:
    """The program that a step or a rollout belongs to, without the run's id before it."""
    return str(record.get("program", record["agent"])).rpartition("/")[2]


def buckets(began: float, ended: float, events: int) -> tuple[int, float]:
    """How many buckets a window has, and the seconds of each; no bucket for an empty window.

    Few ``events`` get wide buckets: four in each on average, or a line would jump between none and one.
    """
    length = ended - began
    if length <= 0:
        return 0, 0.0
    count = max(1, min(BUCKETS, math.floor(length), events // 4))
    return count, length / count


def _sums(window: tuple[float, float], found: Iterable[tuple[float, float]]) -> Over:
    """Sum of values by the bucket of their time."""
    events = list(found)
    began, ended = window
    count, width = buckets(began, ended, len(events))
    values = [0.0] * count
    for at, value in events:
        if count and began <= at <= ended:
            values[min(count - 1, int((at - began) / width))] += value
    return Over(began, width, values)


def steps_per_min(run: RunRecords) -> Over:
    """Steps that ended, as a rate of each bucket."""
    found = _sums(window_of(run), ((s["ended"], 1.0) for s in run.lines("steps")))
    return Over(found.began, found.width, [60 * value / found.width for value in found.values])


def hit_rate(run: RunRecords) -> Line:
    """Σ cached ÷ Σ prompt tokens of the steps that ended in each bucket; no point where none did."""
    window = window_of(run)
    cached = _sums(window, ((s["ended"], s["cached_tokens"]) for s in run.lines("steps")))
    prompt = _sums(window, ((s["ended"], s["prompt_tokens"]) for s in run.lines("steps")))
    points = [(at, c / p) for at, c, p in zip(cached.at, cached.values, prompt.values, strict=True) if p]
    return [at for at, _ in points], [share for _, share in points]


def by_worker(run: RunRecords) -> dict[str, list[dict[str, Any]]]:
    """The samples of each worker, in the order of time."""
    found: dict[str, list[dict[str, Any]]] = {}
    for sample in run.lines("samples"):
        found.setdefault(sample["worker"], []).append(sample)
    return found


def thinned(at: Sequence[float], values: Sequence[float]) -> Line:
    """At most ``POINTS`` points; each is the highest of those it stands for."""
    every = max(1, -(-len(at) // POINTS))
    picked = range(0, len(at), every)
    return [round(at[n], 2) for n in picked], [round(max(values[n : n + every]), 5) for n in picked]


@dataclass(frozen=True, slots=True)
class Kv:
    """One worker's KV space over time, as shares of its capacity."""

    capacity_tokens: int
    reserved: Line
    """Tokens of the programs that were placed there; above 1 they do not fit."""
    reasoning: Line
    """Those of them with a call in flight."""
    engine: Line
    """What the engine itself had in use."""


def kv(run: RunRecords) -> dict[str, Kv]:
    """Of each worker."""
    found = {}
    for worker, samples in by_worker(run).items():
        at = [s["at"] for s in samples]
        reasoning = [ratio(s.get("reasoning_tokens", 0), s["capacity_tokens"]) for s in samples]
        acting = [ratio(s.get("acting_tokens", 0), s["capacity_tokens"]) for s in samples]
        found[worker] = Kv(
            samples[-1]["capacity_tokens"],
            thinned(at, [a + b for a, b in zip(reasoning, acting, strict=True)]),
            thinned(at, reasoning),
            thinned(at, [s["engine"].get("kv_usage", 0.0) for s in samples]),
        )
    return found


def space_time(run: RunRecords) -> tuple[list[float], dict[str, list[float]]]:
    """Share of the KV token·seconds that each use took, between samplings, over all workers.

    Calls are booked when they end, so a stretch may show more than it offered; ``unused`` is never below 0.
    """
    workers = by_worker(run)
    most = max(map(len, workers.values()), default=0)
    every = max(1, most // STRETCHES)
    at: list[float] = []
    shares: dict[str, list[float]] = {use: [] for use in USES}
    for n in range(every, most, every):
        offered, used, ends = 0.0, dict.fromkeys(USES, 0.0), 0.0
        for samples in workers.values():
            if n >= len(samples):
                continue  # it died
            first, last = samples[n - every], samples[n]
            offered += last["capacity_tokens"] * (last["at"] - first["at"])
            ends = max(ends, last["at"])
            for use in USES[:-1]:
                used[use] += last["cost"][use] - first["cost"][use]
        if offered <= 0:
            continue
        at.append(round(ends, 2))
        for use in USES[:-1]:
            shares[use].append(round(used[use] / offered, 5))
        shares["unused"].append(round(max(0.0, 1 - sum(used.values()) / offered), 5))
    return at, shares


def programs(run: RunRecords) -> list[Program]:
    """Every program that did anything, in the order in which they began."""
    found: dict[str, Program] = {}
    for r in last_words(run.lines("rollouts")):
        name = name_of(r)
        began = float(r.get("started", 0.0))
        task = str(r.get("instance_id", ""))
        found[name] = Program(name, task, r["status"], began, float(r.get("ended", began)), math.inf)
    for step in run.lines("steps"):
        name = name_of(step)
        program = found.get(name)
        if program is None:  # the run stopped before it could say how this one ended
            program = found[name] = Program(name, "", "running", step["at"], step["ended"], math.inf)
        _take_step(program, step)
    _take_decisions(found, run.lines("decisions"))
    for program in found.values():
        if program.placed == math.inf:  # it never got a place
            program.placed = max(program.ended, program.began)
            if program.ended > program.began and not program.waiting:
                program.waiting.append((program.began, program.ended))
    return sorted(found.values(), key=lambda p: (p.began, p.name))


def _take_step(program: Program, step: dict[str, Any]) -> None:
    admitted = step["at"] + step["held_s"]
    answered = step["at"] + step["latency_s"]
    program.steps += 1
    program.began = min(program.began, step["at"])
    program.ended = max(program.ended, step["ended"])
    program.placed = min(program.placed, admitted)
    if step["held_s"] > 0:
        program.waiting.append((step["at"], admitted))
    program.reasoning.append((admitted, answered))
    if step["ended"] > answered:
        program.acting.append((answered, step["ended"]))


def _take_decisions(found: dict[str, Program], decisions: Iterable[dict[str, Any]]) -> None:
    since: dict[str, float] = {}
    for decision in decisions:
        program = found.get(str(decision.get("program", "")).rpartition("/")[2])
        if program is None or "at" not in decision:
            continue
        if decision["effect"] == "Paused":
            since.setdefault(program.name, decision["at"])
        elif decision["effect"] == "Restored":
            program.placed = min(program.placed, decision["at"])
            began = since.pop(program.name, None)
            if began is not None:
                program.paused.append((began, decision["at"]))
    for name, began in since.items():
        if found[name].ended > began:
            found[name].paused.append((began, found[name].ended))


def populations(of: Sequence[Program], window: tuple[float, float]) -> dict[str, Line]:
    """How many programs were active, paused, and waiting for their first place, at ``POINTS`` moments."""
    began, ended = window
    if ended <= began:
        return {}
    moments = [began + (ended - began) * n / (POINTS - 1) for n in range(POINTS)]
    alive = _inside(moments, [(p.began, p.ended) for p in of])
    waiting = _inside(moments, [(p.began, p.placed) for p in of])
    paused = _inside(moments, [span for p in of for span in p.paused])
    at = [round(m, 2) for m in moments]
    active = [max(0.0, a - w - p) for a, w, p in zip(alive, waiting, paused, strict=True)]
    return {"active": (at, active), "paused": (at, paused), "waiting for a first place": (at, waiting)}


def _inside(moments: Sequence[float], spans: Iterable[tuple[float, float]]) -> list[float]:
    """At each moment, how many of the half-open ``spans`` hold it."""
    changes = sorted([(begin, 1) for begin, end in spans if end > begin] + [(e, -1) for b, e in spans if e > b])
    counts: list[float] = []
    now, n = 0, 0
    for moment in moments:
        while n < len(changes) and changes[n][0] <= moment:
            now += changes[n][1]
            n += 1
        counts.append(float(now))
    return counts


def pauses(of: Iterable[Program]) -> list[float]:
    """Seconds of each pause."""
    return [end - begin for program in of for begin, end in program.paused]


def shares_within(values: Sequence[float]) -> Line:
    """Cumulative distribution: a value, and the share of all that are not above it."""
    ordered = sorted(values)
    if not ordered:
        return [], []
    count = len(ordered)
    ranks = sorted({max(1, round(count * n / POINTS)) for n in range(1, POINTS + 1)} | {1, count})
    return [round(ordered[rank - 1], 4) for rank in ranks], [round(rank / count, 5) for rank in ranks]


def drawable(of: Sequence[Program]) -> list[Program]:
    """As many of the programs as a timeline takes."""
    kept, spans = [], 0
    for program in of:
        spans += program.spans
        if spans > SEGMENTS:
            break
        kept.append(program)
    return kept
