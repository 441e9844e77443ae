"""Every figure of a report, computed from a run's folder.

Definitions, once and for all:

- *window*: from the start of the first step to the end of the last one, tools included, judging excluded;
- *hit rate*: Σ cached ÷ Σ prompt tokens over all calls, as the engine's ``usage`` states them; *engine hit rate*: the
  same from the difference of the engine's own counters between the first and the last sample;
- *latency*: from sending a call to having its whole answer; *without pauses*: less the time the scheduler held it;
- *unused*: KV capacity × window that no program's call or resting context was booked for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from thunderctl.runs.store import RunFolder


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


def summarise(run: RunFolder) -> dict[str, Any]:
    """The report's figures. Times in seconds, sizes in bytes, rates as their names say."""
    manifest = run.read("manifest.json")
    steps = list(run.lines("steps"))
    rollouts = run.rollouts()
    window = max((s["ended"] for s in steps), default=0.0) - min((s["at"] for s in steps), default=0.0)
    prompt = sum(s["prompt_tokens"] for s in steps)
    cached = sum(s["cached_tokens"] for s in steps)
    output = sum(s["output_tokens"] for s in steps)
    ended_well = [r for r in rollouts if r["status"] != "failed"]
    return {
        "run": run.id,
        "schema": manifest["schema"],
        "workload": manifest["workload"],
        "kind": manifest["kind"],
        "tasks_are": manifest["tasks_are"],
        "profile": manifest["profile"],
        "policy": manifest["policy"],
        "engine": manifest["engine"],
        "environments": manifest["environments"]["backend"],
        "complete": len(rollouts) == manifest["agents"],
        "agents": {
            "asked": manifest["agents"],
            "finished": len(ended_well),
            "by_status": dict(Counter(r["status"] for r in rollouts)),
            "resolved": sum(r["resolved"] is True for r in rollouts),
            "not_resolved": sum(r["resolved"] is False for r in rollouts),
            "not_judged": sum(r["resolved"] is None for r in rollouts),
        },
        "window_s": window,
        "throughput": {
            "steps": len(steps),
            "steps_per_min": ratio(60 * len(steps), window),
            "programs_per_h": ratio(3600 * len(ended_well), window),
            "output_tokens_per_s": ratio(output, window),
        },
        "tokens": {"prompt": prompt, "cached": cached, "output": output},
        "context_tokens": {
            "mean": ratio(prompt, len(steps)),
            "max": max((s["prompt_tokens"] + s["output_tokens"] for s in steps), default=0),
        },
        "hit_rate": ratio(cached, prompt),
        "engine_hit_rate": _engine_hit_rate(list(run.lines("samples"))),
        "latency_s": spread(s["latency_s"] for s in steps),
        "latency_without_pauses_s": spread(s["latency_s"] - s["held_s"] for s in steps),
        "held_s": {**spread(s["held_s"] for s in steps), "total": sum(s["held_s"] for s in steps)},
        "scheduler": _decisions(run.lines("decisions")),
        "tool_s": {**spread(s["tool_s"] for s in steps if s["command"]), "total": sum(s["tool_s"] for s in steps)},
        "tool_timeouts": sum(bool(s.get("timed_out")) for s in steps),
        "prepare_s": spread(r["prepare_s"] for r in rollouts),
        "disk": _disk(list(run.lines("disk"))),
        "kv_space_time": _space_time(list(run.lines("samples"))),
    }


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
    return {
        "peak_bytes": max(totals, default=0),
        "now_bytes": totals[-1] if totals else 0,
        "peak_by_kind": peak["by_kind"] if peak else {},
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
