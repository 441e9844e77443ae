"""Every figure of a report, computed from a run's records: a stored run's folder, or a simulation's result.

Definitions, once and for all:

- *window*: from the start of the first step to the end of the last one, tools included, judging excluded. A run that
  the clock ended says its window itself, and steps that ended outside it do not count;
- *tokens*, *context* and *hit rate* leave out steps that another server answered (``external``);
- *hit rate*: Σ cached ÷ Σ prompt tokens over all calls, as the engine's ``usage`` states them; *engine hit rate*: the
  same from the difference of the engine's own counters between the first and the last sample;
- *latency*: from sending a call to having its whole answer; *without pauses*: less the time the scheduler held it;
- *unused*: KV capacity × window that no program's call or resting context was booked for;
- *imbalance*: at each sampling, the fullest worker less the emptiest one, each as booked tokens ÷ its capacity; mean
  and maximum over the samplings that saw at least two workers;
- *driver*: what the process that runs the agents cost and by how much its event loop lagged, as it measured itself; the
  daemon's answer is the round trip of ``/health``;
- *host lag*: seconds by which an emulated engine came too late because its host could not keep pace ÷ emulated seconds
  between the first and the last sample. Above 5% the host shows in the figures;
- *disk without collection*: computed, see ``report/disk.py``;
- the work itself, its load and what came of it: see ``report/work.py``.

Times of an emulated node are emulated seconds throughout.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from thunderctl.report import work
from thunderctl.report.disk import without_collection

UNFINISHED = ("failed", "cut off", "running")
"""States of programs that did not get to their end."""
TEXTS = ("content", "observation", "output", "patch", "submission")
"""What agents and tools wrote: no figure needs it, and it is most of a run."""


class RunRecords(Protocol):
    """What a report is made from; ``runs/store.py`` says which records there are."""

    @property
    def id(self) -> str: ...

    def read(self, name: str) -> Any: ...

    def lines(self, name: str) -> Iterable[dict[str, Any]]: ...


class Loaded:
    """Records that are read once and kept without their texts, for whoever goes through them several times."""

    def __init__(self, run: RunRecords) -> None:
        self._run = run
        self._kept: dict[str, list[dict[str, Any]]] = {}

    @property
    def id(self) -> str:
        return self._run.id

    def read(self, name: str) -> Any:
        return self._run.read(name)

    def lines(self, name: str) -> list[dict[str, Any]]:
        if name not in self._kept:
            found = self._run.lines(name)
            self._kept[name] = [{key: record[key] for key in record if key not in TEXTS} for record in found]
        return self._kept[name]


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile; 0 for nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Iterable[float]) -> dict[str, float]:
    found = list(values)
    return {
        "mean": sum(found) / len(found) if found else 0.0,
        "p50": percentile(found, 0.5),
        "p90": percentile(found, 0.9),
        "p99": percentile(found, 0.99),
        "max": max(found, default=0.0),
    }


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def last_words(rollouts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last record of each program: it is written when it ends, and once more when its patch was judged."""
    return list({record.get("program", record["agent"]): record for record in rollouts}.values())


def window_of(run: RunRecords) -> tuple[float, float]:
    """Begin and end of the measured window; both 0 for a run without a step."""
    manifest = run.read("manifest.json")
    if "window" in manifest:
        began, ended = manifest["window"]
        return float(began), float(ended)
    steps = list(run.lines("steps"))
    return min((s["at"] for s in steps), default=0.0), max((s["ended"] for s in steps), default=0.0)


def summarise(run: RunRecords) -> dict[str, Any]:
    """The report's figures. Times in seconds, sizes in bytes, rates as their names say."""
    run = Loaded(run)
    manifest, profile = run.read("manifest.json"), work.profile_of(run)
    samples = run.lines("samples")
    rollouts = last_words(run.lines("rollouts"))
    began, ended = window_of(run)
    steps = [s for s in run.lines("steps") if began <= s["ended"] <= ended]
    window = ended - began
    judged = [r for r in rollouts if manifest["kind"] != "trace"]
    here = [s for s in steps if not s.get("external")]
    prompt = sum(s["prompt_tokens"] for s in here)
    cached = sum(s["cached_tokens"] for s in here)
    output = sum(s["output_tokens"] for s in here)
    ended_well = [r for r in rollouts if r["status"] not in UNFINISHED]
    return {
        "run": run.id,
        "schema": manifest["schema"],
        "workload": manifest["workload"],
        "kind": manifest["kind"],
        "tasks_are": manifest["tasks_are"],
        "profile": manifest["profile"],
        "policy": manifest["policy"],
        "engine": manifest["engine"],
        "time_model": manifest.get("time_model"),
        "model": work.model_of(profile),
        "seed": work.seed_of(manifest),
        "tasks": work.tasks_of(manifest, rollouts),
        "workers": len({s["worker"] for s in samples}),
        "environments": manifest["environments"]["backend"],
        "complete": _complete(manifest, len(rollouts)),
        "ended": manifest.get("ended"),
        "shape": manifest.get("shape"),
        "given": {key: manifest.get(key) for key in ("work_digest", "max_steps", "duration_s")},
        "done": _done(run.lines("steps")),
        **({"trace": _work(manifest["trace"])} if "trace" in manifest else {}),
        "agents": {
            "asked": manifest["agents"],
            "finished": len(ended_well),
            "by_status": dict(Counter(r["status"] for r in rollouts)),
            "resolved": sum(r["resolved"] is True for r in judged),
            "not_resolved": sum(r["resolved"] is False for r in judged),
            "not_judged": sum(r["resolved"] is None for r in judged),
        },
        "judged": None if manifest["kind"] == "trace" else manifest.get("judged", work.PATCHES),
        "parts": work.parts_of(judged),
        "drift": work.drift_of(judged),
        "models": work.models_of(rollouts),
        "roles": manifest.get("roles", {}),
        "rows_refused": len(manifest.get("rows_refused", ())),
        "evaluation": manifest.get("evaluation"),
        "driver": manifest.get("driver"),
        "sittings": len(manifest.get("sittings", ())) + 1,
        "errors": work.errors_of(manifest, profile, rollouts),
        "window_s": window,
        "throughput": {
            "steps": len(steps),
            "steps_per_min": ratio(60 * len(steps), window),
            "programs_per_h": ratio(3600 * len(ended_well), window),
            "output_tokens_per_s": ratio(output, window),
        },
        "tokens": {"prompt": prompt, "cached": cached, "output": output},
        "context_tokens": {
            "mean": ratio(prompt, len(here)),
            "max": max((s["prompt_tokens"] + s["output_tokens"] for s in here), default=0),
        },
        "hit_rate": ratio(cached, prompt),
        "engine_hit_rate": _engine_hit_rate(samples),
        "latency_s": spread(s["latency_s"] for s in steps),
        "latency_without_pauses_s": spread(s["latency_s"] - s["held_s"] for s in steps),
        "held_s": {**spread(s["held_s"] for s in steps), "total": sum(s["held_s"] for s in steps)},
        "scheduler": _decisions(run.lines("decisions")),
        "tool_s": {**spread(s["tool_s"] for s in steps if s["command"]), "total": sum(s["tool_s"] for s in steps)},
        "tool_timeouts": sum(bool(s.get("timed_out")) for s in steps),
        "prepare_s": spread(r["prepare_s"] for r in rollouts if "prepare_s" in r),
        "environment_wait_s": spread(r["environment_wait_s"] for r in rollouts if "environment_wait_s" in r),
        "disk": _disk(run.lines("disk")),
        "kv_space_time": _space_time(samples),
        "load": {**work.load_of(_samplings(samples)), "preemptions": _preemptions(samples)},
        "imbalance": _imbalance(samples),
        **_host_lag(samples),
    }


def _complete(manifest: dict[str, Any], rollouts: int) -> bool:
    """Whether the run came to its end: all its agents or programs did, or its time was up."""
    if "ended" in manifest:
        return manifest["ended"] in ("done", "duration")
    if "shape" in manifest:
        return False  # it was killed before it could say how it ended
    if manifest["kind"] != "trace":
        return rollouts == work.due_of(manifest)
    if "trace" not in manifest:
        return True  # a simulation does not stop half-way
    programs = manifest["trace"]["programs"]
    return "window" in manifest if programs is None else rollouts == programs


def _done(steps: list[dict[str, Any]]) -> dict[str, int]:
    """All that was done, within the measured window or not."""
    return {"steps": len(steps), "output_tokens": sum(s["output_tokens"] for s in steps)}


def _work(trace: dict[str, Any]) -> dict[str, Any]:
    """What says that two runs did the same; where the trace's file lies is no part of it."""
    return {key: trace[key] for key in ("name", "digest", "programs", "duration_s", "start", "seed")}


def _first_and_last(samples: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """First and last sample of each worker."""
    first: dict[str, dict[str, Any]] = {}
    last: dict[str, dict[str, Any]] = {}
    for sample in samples:
        first.setdefault(sample["worker"], sample)
        last[sample["worker"]] = sample
    return [(first[name], last[name]) for name in first]


def _engine_hit_rate(samples: list[dict[str, Any]]) -> float:
    pairs = _first_and_last(samples)
    hits = sum(b["engine"]["prefix_hits"] - a["engine"]["prefix_hits"] for a, b in pairs)
    queries = sum(b["engine"]["prefix_queries"] - a["engine"]["prefix_queries"] for a, b in pairs)
    return ratio(hits, queries)


def _preemptions(samples: list[dict[str, Any]]) -> int:
    """Requests that the engines themselves threw out, between first and last sample."""
    return sum(
        int(b["engine"].get("preemptions", 0) - a["engine"].get("preemptions", 0)) for a, b in _first_and_last(samples)
    )


def _decisions(decisions: Iterable[dict[str, Any]]) -> dict[str, int]:
    found = Counter[str]()
    for decision in decisions:
        if decision["effect"] == "Paused":
            found["pauses"] += 1
        elif decision["effect"] == "Restored" and decision["reason"] != "first placement":
            found["restores"] += 1
            found["forced_restores"] += decision["forced"]
            found["migrations"] += decision["moved"]
        elif decision["effect"] == "Reject":
            found["rejected"] += 1
    return {name: found[name] for name in ("pauses", "restores", "forced_restores", "migrations", "rejected")}


def _disk(samples: list[dict[str, Any]]) -> dict[str, Any]:
    totals = [s["bytes_now"] for s in samples]
    peak = max(samples, key=lambda s: s["bytes_now"], default=None)
    computed = without_collection(samples)
    return {
        "peak_bytes": max(totals, default=0),
        "now_bytes": totals[-1] if totals else 0,
        "peak_by_kind": peak["by_kind"] if peak else {},
        **({"without_collection_peak_bytes": max(computed)} if computed else {}),
    }


def _space_time(samples: list[dict[str, Any]]) -> dict[str, float]:
    """KV token·seconds by use, as shares of what the workers offered between the first and the last sample."""
    offered = 0.0
    used = Counter[str]()
    recomputed = 0.0
    for first, last in _first_and_last(samples):
        offered += last["capacity_tokens"] * (last["at"] - first["at"])
        for use in ("decode", "prefill", "recompute", "caching"):
            used[use] += last["cost"][use] - first["cost"][use]
        recomputed += last["cost"]["recomputed_tokens"] - first["cost"]["recomputed_tokens"]
    shares = {use: ratio(value, offered) for use, value in used.items()}
    shares["unused"] = max(0.0, 1 - sum(shares.values())) if offered else 0.0
    return {**shares, "offered_token_s": offered, "recomputed_tokens": recomputed}


def _imbalance(samples: list[dict[str, Any]]) -> dict[str, float]:
    apart = [max(shares) - min(shares) for shares in _samplings(samples) if len(shares) > 1]
    return {"mean": sum(apart) / len(apart) if apart else 0.0, "max": max(apart, default=0.0)}


def _samplings(samples: list[dict[str, Any]]) -> Iterator[list[float]]:
    """Booked share of each worker's capacity, one list for each time that all workers were sampled in turn."""
    seen: dict[str, float] = {}
    for sample in samples:
        if sample["worker"] in seen:
            yield list(seen.values())
            seen = {}
        booked = sample.get("reasoning_tokens", 0) + sample.get("acting_tokens", 0)
        seen[sample["worker"]] = ratio(booked, sample["capacity_tokens"])
    yield list(seen.values())


def _host_lag(samples: list[dict[str, Any]]) -> dict[str, float]:
    """Nothing where no engine is emulated."""
    pairs = [(a, b) for a, b in _first_and_last(samples) if "pace" in a and "pace" in b]
    if not pairs:
        return {}
    late = sum(b["pace"]["lag_s"] - a["pace"]["lag_s"] for a, b in pairs)
    return {"host_lag": ratio(late, sum(b["at"] - a["at"] for a, b in pairs))}
