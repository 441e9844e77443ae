"""A second, separate computation of a report's figures from a run's folder: plain loops over the stored lines.

It shares no code with the package, so an error in one of the two shows.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def nearest_rank(values: list[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


def imbalance(samples: list[dict[str, Any]]) -> list[float]:
    """Fullest less emptiest worker, for each turn through the workers. A turn ends where a name comes again."""
    turns: list[dict[str, float]] = [{}]
    for s in samples:
        if s["worker"] in turns[-1]:
            turns.append({})
        turns[-1][s["worker"]] = (s["reasoning_tokens"] + s["acting_tokens"]) / s["capacity_tokens"]
    return [max(t.values()) - min(t.values()) for t in turns if len(t) >= 2]


def host_lag(samples: list[dict[str, Any]]) -> float:
    late = passed = 0.0
    for worker in {s["worker"] for s in samples}:
        own = [s for s in samples if s["worker"] == worker]
        late += own[-1]["pace"]["lag_s"] - own[0]["pace"]["lag_s"]
        passed += own[-1]["at"] - own[0]["at"]
    return late / passed


def recompute(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / "manifest.json").read_text())
    steps, disk, samples = (lines(folder, n) for n in ("steps", "disk", "samples"))
    decisions = lines(folder, "decisions") if (folder / "decisions.jsonl").exists() else []
    rollouts: dict[str, dict[str, Any]] = {}
    for record in lines(folder, "rollouts"):
        rollouts[record["program"] if "program" in record else record["agent"]] = record
    if "window" in manifest:
        first, last = manifest["window"]
        steps = [s for s in steps if s["ended"] >= first and s["ended"] <= last]
        minutes = (last - first) / 60
    else:
        minutes = (max(s["ended"] for s in steps) - min(s["at"] for s in steps)) / 60
    finished = [r for r in rollouts.values() if r["status"] not in ("failed", "cut off")]
    judged = [] if manifest["kind"] == "trace" else list(rollouts.values())
    prepared = [r["prepare_s"] for r in rollouts.values() if "prepare_s" in r]
    awaited = [r["environment_wait_s"] for r in rollouts.values() if "environment_wait_s" in r]
    apart = imbalance(samples)
    restored = [d for d in decisions if d["effect"] == "Restored" and d["reason"] != "first placement"]
    hits = queries = 0.0
    for worker in {s["worker"] for s in samples}:
        own = [s["engine"] for s in samples if s["worker"] == worker]
        hits += own[-1]["prefix_hits"] - own[0]["prefix_hits"]
        queries += own[-1]["prefix_queries"] - own[0]["prefix_queries"]
    latency = [s["latency_s"] for s in steps]
    unpaused = [s["latency_s"] - s["held_s"] for s in steps]
    return {
        ("window_s",): minutes * 60,
        ("throughput", "steps"): len(steps),
        ("throughput", "steps_per_min"): len(steps) / minutes,
        ("throughput", "programs_per_h"): len(finished) / minutes * 60,
        ("throughput", "output_tokens_per_s"): sum(s["output_tokens"] for s in steps) / minutes / 60,
        ("tokens", "prompt"): sum(s["prompt_tokens"] for s in steps),
        ("tokens", "cached"): sum(s["cached_tokens"] for s in steps),
        ("tokens", "output"): sum(s["output_tokens"] for s in steps),
        ("context_tokens", "mean"): sum(s["prompt_tokens"] for s in steps) / len(steps),
        ("context_tokens", "max"): max(s["prompt_tokens"] + s["output_tokens"] for s in steps),
        ("hit_rate",): sum(s["cached_tokens"] for s in steps) / sum(s["prompt_tokens"] for s in steps),
        ("engine_hit_rate",): hits / queries if queries else 0.0,
        ("latency_s", "mean"): sum(latency) / len(latency),
        ("latency_s", "p50"): nearest_rank(latency, 0.5),
        ("latency_s", "p90"): nearest_rank(latency, 0.9),
        ("latency_without_pauses_s", "p50"): nearest_rank(unpaused, 0.5),
        ("latency_without_pauses_s", "p90"): nearest_rank(unpaused, 0.9),
        ("held_s", "total"): sum(s["held_s"] for s in steps),
        ("held_s", "max"): max(s["held_s"] for s in steps),
        ("scheduler", "pauses"): sum(d["effect"] == "Paused" for d in decisions),
        ("scheduler", "restores"): len(restored),
        ("scheduler", "forced_restores"): sum(d["forced"] for d in restored),
        ("scheduler", "migrations"): sum(d["moved"] for d in restored),
        ("tool_s", "total"): sum(s["tool_s"] for s in steps),
        ("tool_s", "p50"): nearest_rank([s["tool_s"] for s in steps if s["command"]], 0.5),
        ("tool_timeouts",): sum(bool(s.get("timed_out")) for s in steps),
        ("prepare_s", "mean"): sum(prepared) / len(prepared) if prepared else 0.0,
        ("environment_wait_s", "mean"): sum(awaited) / len(awaited) if awaited else 0.0,
        ("disk", "peak_bytes"): max(d["bytes_now"] for d in disk),
        ("disk", "now_bytes"): disk[-1]["bytes_now"],
        ("agents", "finished"): len(finished),
        ("agents", "resolved"): sum(r["resolved"] is True for r in judged),
        ("agents", "not_resolved"): sum(r["resolved"] is False for r in judged),
        ("agents", "not_judged"): sum(r["resolved"] is None for r in judged),
        ("kv_space_time", "recomputed_tokens"): sum(
            own[-1]["cost"]["recomputed_tokens"] - own[0]["cost"]["recomputed_tokens"]
            for own in ([s for s in samples if s["worker"] == w] for w in {s["worker"] for s in samples})
        ),
        ("workers",): len({s["worker"] for s in samples}),
        ("imbalance", "mean"): sum(apart) / len(apart) if apart else 0.0,
        ("imbalance", "max"): max(apart, default=0.0),
        **({("host_lag",): host_lag(samples)} if any("pace" in s for s in samples) else {}),
    }


def differences(folder: Path, summary: dict[str, Any]) -> list[str]:
    """Figures of ``summary`` that the folder does not bear out."""
    found = []
    for path, expected in recompute(folder).items():
        value: Any = summary
        for key in path:
            value = value[key]
        if not math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-9):
            found.append(f"{'.'.join(path)}: the report says {value}, the folder {expected}")
    return found
