"""A second, separate computation of a report's figures from a run's folder: plain loops over the stored lines.

It shares no code with the package, so an error in one of the two shows.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """Whole lines only; a run that was killed may have no such file, or half a line at its end."""
    path = folder / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def nearest_rank(values: list[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else 0.0


def per(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def booked(samples: list[dict[str, Any]]) -> list[list[float]]:
    """Booked share of each worker, a list for each turn through them."""
    turns: list[dict[str, float]] = []
    for s in samples:
        if not turns or s["worker"] in turns[-1]:
            turns.append({})
        turns[-1][s["worker"]] = (s["reasoning_tokens"] + s["acting_tokens"]) / s["capacity_tokens"]
    return [list(turn.values()) for turn in turns]


def came_of(rollouts: list[dict[str, Any]]) -> dict[tuple[str, ...], float]:
    """Checks and scores, drift, and what each model was used for."""
    found: dict[tuple[str, ...], float] = {
        ("drift", "steps"): sum(r.get("drifted", 0) for r in rollouts),
        ("drift", "programs"): sum(r.get("drifted", 0) > 0 for r in rollouts),
    }
    with_parts = [r["parts"] for r in rollouts if r.get("parts")]
    for part in {name for parts in with_parts for name in parts if all(name in other for other in with_parts)}:
        values = [parts[part] for parts in with_parts]
        found["parts", part, "of"] = len(values)
        found["parts", part, "mean"] = sum(values) / len(values)
        if all(value is True or value is False for value in values):
            found["parts", part, "passed"] = values.count(True)
    for model in {name for r in rollouts for name in r.get("models", {})}:
        users = [r for r in rollouts if model in r.get("models", {})]
        for key in ("calls", "prompt_tokens", "output_tokens", "cost_usd", "answered"):
            found["models", model, key] = sum(r["models"][model].get(key, 0) for r in users)
        answered = [r for r in users if r["models"][model].get("answered")]
        found["models", model, "right"] = sum(r["resolved"] is True for r in answered)
    return found


def host_lag(samples: list[dict[str, Any]]) -> float:
    late = passed = 0.0
    for worker in {s["worker"] for s in samples}:
        own = [s for s in samples if s["worker"] == worker]
        late += own[-1]["pace"]["lag_s"] - own[0]["pace"]["lag_s"]
        passed += own[-1]["at"] - own[0]["at"]
    return per(late, passed)


def recompute(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / "manifest.json").read_text())
    steps, disk, samples = (lines(folder, n) for n in ("steps", "disk", "samples"))
    every_step = steps
    decisions = lines(folder, "decisions")
    rollouts: dict[str, dict[str, Any]] = {}
    for record in lines(folder, "rollouts"):
        rollouts[record["program"] if "program" in record else record["agent"]] = record
    if "window" in manifest:
        first, last = manifest["window"]
        steps = [s for s in steps if s["ended"] >= first and s["ended"] <= last]
        minutes = (last - first) / 60
    else:
        minutes = (max(s["ended"] for s in steps) - min(s["at"] for s in steps)) / 60 if steps else 0.0
    finished = [r for r in rollouts.values() if r["status"] not in ("failed", "cut off", "running")]
    judged = [] if manifest["kind"] == "trace" else list(rollouts.values())
    prepared = [r["prepare_s"] for r in rollouts.values() if "prepare_s" in r]
    awaited = [r["environment_wait_s"] for r in rollouts.values() if "environment_wait_s" in r]
    turns = booked(samples)
    apart = [max(shares) - min(shares) for shares in turns if len(shares) >= 2]
    means = [sum(shares) / len(shares) for shares in turns]
    failed = sum(r["status"] == "failed" for r in rollouts.values())
    programs = manifest["trace"]["programs"] if "trace" in manifest else manifest["agents"]
    due = manifest.get("due", manifest["agents"] if programs is None else programs)
    restored = [d for d in decisions if d["effect"] == "Restored" and d["reason"] != "first placement"]
    hits = queries = 0.0
    for worker in {s["worker"] for s in samples}:
        own = [s["engine"] for s in samples if s["worker"] == worker]
        hits += own[-1]["prefix_hits"] - own[0]["prefix_hits"]
        queries += own[-1]["prefix_queries"] - own[0]["prefix_queries"]
    latency = [s["latency_s"] for s in steps]
    ours = [s for s in steps if "external" not in s]
    unpaused = [s["latency_s"] - s["held_s"] for s in steps]
    return {
        ("window_s",): minutes * 60,
        ("throughput", "steps"): len(steps),
        ("throughput", "steps_per_min"): per(len(steps), minutes),
        ("throughput", "programs_per_h"): per(len(finished), minutes) * 60,
        ("throughput", "output_tokens_per_s"): per(sum(s["output_tokens"] for s in ours), minutes) / 60,
        ("tokens", "prompt"): sum(s["prompt_tokens"] for s in ours),
        ("tokens", "cached"): sum(s["cached_tokens"] for s in ours),
        ("tokens", "output"): sum(s["output_tokens"] for s in ours),
        ("context_tokens", "mean"): per(sum(s["prompt_tokens"] for s in ours), len(ours)),
        ("context_tokens", "max"): max([s["prompt_tokens"] + s["output_tokens"] for s in ours], default=0),
        ("hit_rate",): per(sum(s["cached_tokens"] for s in ours), sum(s["prompt_tokens"] for s in ours)),
        ("engine_hit_rate",): hits / queries if queries else 0.0,
        ("latency_s", "mean"): per(sum(latency), len(latency)),
        ("latency_s", "p50"): nearest_rank(latency, 0.5),
        ("latency_s", "p90"): nearest_rank(latency, 0.9),
        ("latency_without_pauses_s", "p50"): nearest_rank(unpaused, 0.5),
        ("latency_without_pauses_s", "p90"): nearest_rank(unpaused, 0.9),
        ("held_s", "total"): sum(s["held_s"] for s in steps),
        ("held_s", "max"): max([s["held_s"] for s in steps], default=0.0),
        ("scheduler", "pauses"): sum(d["effect"] == "Paused" for d in decisions),
        ("scheduler", "restores"): len(restored),
        ("scheduler", "forced_restores"): sum(d["forced"] for d in restored),
        ("scheduler", "migrations"): sum(d["moved"] for d in restored),
        ("tool_s", "total"): sum(s["tool_s"] for s in steps),
        ("tool_s", "p50"): nearest_rank([s["tool_s"] for s in steps if s["command"]], 0.5),
        ("tool_timeouts",): sum(bool(s.get("timed_out")) for s in steps),
        ("prepare_s", "mean"): sum(prepared) / len(prepared) if prepared else 0.0,
        ("environment_wait_s", "mean"): sum(awaited) / len(awaited) if awaited else 0.0,
        ("disk", "peak_bytes"): max([d["bytes_now"] for d in disk], default=0),
        ("disk", "now_bytes"): disk[-1]["bytes_now"] if disk else 0,
        ("agents", "finished"): len(finished),
        ("agents", "resolved"): sum(r["resolved"] is True for r in judged),
        ("agents", "not_resolved"): sum(r["resolved"] is False for r in judged),
        ("agents", "not_judged"): sum(r["resolved"] is None for r in judged),
        ("kv_space_time", "recomputed_tokens"): sum(
            own[-1]["cost"]["recomputed_tokens"] - own[0]["cost"]["recomputed_tokens"]
            for own in ([s for s in samples if s["worker"] == w] for w in {s["worker"] for s in samples})
        ),
        ("done", "steps"): len(every_step),
        ("done", "output_tokens"): sum(s["output_tokens"] for s in every_step),
        ("workers",): len({s["worker"] for s in samples}),
        ("imbalance", "mean"): sum(apart) / len(apart) if apart else 0.0,
        ("imbalance", "max"): max(apart, default=0.0),
        ("load", "mean"): per(sum(means), len(means)),
        ("load", "max"): max(means, default=0.0),
        ("load", "over_capacity"): per(sum(any(share > 1 for share in shares) for shares in turns), len(turns)),
        ("errors", "failed"): failed,
        ("errors", "share"): per(failed, due),
        **came_of(judged),
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
