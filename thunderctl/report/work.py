"""What a run worked on, with which model, under which load, and what came of it, beside its speed.

Two runs can be compared only if these agree; a report shows them as the workload's own figures. Definitions:

- *parts*: of each check or score that the workload's judge gave every rollout that it judged, how many there are, how
  many passed (if it is a yes or no) and the mean (a yes counts 1); what only some tasks are judged by stands with each;
- *models*: what each role of a workload with several was used for; *answered*: rollouts whose answer it gave, *right*:
  how many of these were resolved;
- *drift*: steps whose tool did not return what the recording says, in a way that matters; replays only;
- *errors*: programs that failed, as a share of those that were due; ``limit`` is what the run allowed itself;
- *load*: tokens booked for the programs placed on a worker ÷ its KV capacity: mean and maximum over the samplings (mean
  over workers), and the share of samplings in which some worker was booked beyond its capacity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

MESSAGES = 20
"""Different errors that a report names."""
PATCHES = "patches that pass their tests"
BY_CLOCK = ("duration", "max duration")
"""What a manifest says of a run that time ended."""
OF_A_MODEL = ("calls", "prompt_tokens", "output_tokens", "cost_usd", "answered")


class Readable(Protocol):
    """The part of a run's records that holds whole files."""

    def read(self, name: str) -> Any: ...


def profile_of(run: Readable) -> dict[str, Any]:
    """The resolved profile; empty for a simulation, and for a run that ended before it was stored."""
    try:
        found: dict[str, Any] = run.read("profile.json")["profile"]
    except FileNotFoundError:
        return {}
    return found


def model_of(profile: dict[str, Any]) -> str | None:
    """The model that the run's time is that of: the emulated one where there is one. ``None`` if nobody said."""
    if not profile:
        return None
    if profile.get("engine", {}).get("kind") == "emulated":
        said = profile.get("emulation", {})
        emulated = said.get("model") or said.get("costs")
        return None if emulated is None else str(emulated)
    model = profile.get("model", {})
    name = model.get("source") or model.get("served_name")
    revision = model.get("revision")
    return f"{name}@{revision}" if name and revision else name


def seed_of(manifest: dict[str, Any]) -> int | None:
    """Of whatever the run drew by chance."""
    seed = manifest.get("seed", manifest.get("trace", {}).get("seed"))
    return None if seed is None else int(seed)


def cut_by_clock(manifest: dict[str, Any]) -> bool:
    """Whether time ended the run, so that it got as far as it got."""
    return manifest.get("ended") in BY_CLOCK


def tasks_of(manifest: dict[str, Any], rollouts: Iterable[dict[str, Any]]) -> list[str]:
    """The task of each rollout, sorted; where the clock ended the run, those that it was given.

    Of a trace nothing: its digest says what the programs are.
    """
    if manifest["kind"] == "trace":
        return []
    if cut_by_clock(manifest):
        return sorted(manifest.get("tasks", []))
    return sorted(str(r["instance_id"]) for r in rollouts if "instance_id" in r)


def due_of(manifest: dict[str, Any]) -> int:
    """Rollouts that the run was to have; where the clock ended it, as many as there were agents."""
    programs = manifest.get("due", manifest.get("trace", {}).get("programs"))
    return int(manifest["agents"] if programs is None else programs)


def limit_of(manifest: dict[str, Any], profile: dict[str, Any]) -> float | None:
    """The share of errors that the run allowed itself: its command line's, else its profile's."""
    said = manifest.get("asked", {}).get("max_error_rate")
    limit = profile.get("runs", {}).get("max_error_share") if said is None else said
    return None if limit is None else float(limit)


def errors_of(manifest: dict[str, Any], profile: dict[str, Any], rollouts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    failed = [r for r in rollouts if r["status"] == "failed"]
    due = due_of(manifest)
    said = Counter(str(r.get("error") or "no reason given") for r in failed)
    return {
        "failed": len(failed),
        "share": len(failed) / due if due else 0.0,
        "limit": limit_of(manifest, profile),
        "messages": dict(said.most_common(MESSAGES)),
    }


def parts_of(rollouts: Iterable[dict[str, Any]]) -> dict[str, dict[str, float]]:
    found: dict[str, list[bool | float]] = {}
    judged = 0
    for rollout in rollouts:
        judged += bool(rollout.get("parts"))
        for name, value in (rollout.get("parts") or {}).items():
            if isinstance(value, bool | int | float):
                found.setdefault(name, []).append(value)
    return {
        name: {
            "of": len(values),
            **({"passed": sum(v is True for v in values)} if all(isinstance(v, bool) for v in values) else {}),
            "mean": sum(map(float, values)) / len(values),
        }
        for name, values in sorted(found.items())
        if len(values) == judged
    }


def drift_of(rollouts: Iterable[dict[str, Any]]) -> dict[str, int]:
    counts = [int(r.get("drifted") or 0) for r in rollouts]
    return {"steps": sum(counts), "programs": sum(count > 0 for count in counts)}


def models_of(rollouts: Iterable[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Calls, tokens, cost and answers by role, of workloads that use several models."""
    found: dict[str, dict[str, float]] = {}
    for rollout in rollouts:
        for model, used in (rollout.get("models") or {}).items():
            sums = found.setdefault(model, dict.fromkeys((*OF_A_MODEL, "right"), 0))
            sums["right"] += bool(used.get("answered") and rollout.get("resolved"))
            for key in OF_A_MODEL:
                sums[key] += used.get(key) or 0
    return dict(sorted(found.items()))


def load_of(samplings: Iterable[Sequence[float]]) -> dict[str, float]:
    """``samplings``: booked share of each worker's capacity, a list each time that all were sampled."""
    seen = [shares for shares in samplings if shares]
    means = [sum(shares) / len(shares) for shares in seen]
    return {
        "mean": sum(means) / len(means) if means else 0.0,
        "max": max(means, default=0.0),
        "over_capacity": sum(max(shares) > 1 for shares in seen) / len(seen) if seen else 0.0,
    }
