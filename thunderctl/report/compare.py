"""Arms side by side. Arms that did different work are refused: their ratio would mean nothing.

A figure's ratio is that of the means over repeats. Its interval is a bootstrap over repeats (95%, percentiles): the
n-th repeat of an arm ran beside the n-th of the first arm, so both are drawn together. A comparison whose load was
below saturation says so: policies then do the same, whatever the ratio.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from thunderctl.errors import UsageError
from thunderctl.report.stats import percentile
from thunderctl.report.tables import LAG_THAT_SHOWS, percent
from thunderctl.report.work import BY_CLOCK, OF_A_MODEL

SCHEMA = 1
"""Version of ``compare.json``."""
REPEATS = 3
"""Fewer have no interval, and decide nothing."""
DRAWS = 4000
"""Of the bootstrap; where all there are come to no more than this, each is taken once."""
SATURATED = 0.05
"""Share of the samplings over capacity, or of latency spent waiting for a place, above which the load was enough."""
STEPS = "steps/min"
"""The figure that arms are judged by."""

Keys = tuple[str, ...]
FIGURES: list[tuple[str, Keys, str]] = [
    (STEPS, ("throughput", "steps_per_min"), "{:.1f}"),
    ("programs/h", ("throughput", "programs_per_h"), "{:.1f}"),
    ("output tokens/s", ("throughput", "output_tokens_per_s"), "{:.1f}"),
    ("cache hit rate", ("hit_rate",), "{:.3f}"),
    ("engine's own hit rate", ("engine_hit_rate",), "{:.3f}"),
    ("tokens computed again", ("kv_space_time", "recomputed_tokens"), "{:,.0f}"),
    ("latency p50, s", ("latency_s", "p50"), "{:.2f}"),
    ("latency p90, s", ("latency_s", "p90"), "{:.2f}"),
    ("  without pauses p50, s", ("latency_without_pauses_s", "p50"), "{:.2f}"),
    ("  without pauses p90, s", ("latency_without_pauses_s", "p90"), "{:.2f}"),
    ("pauses", ("scheduler", "pauses"), "{:.0f}"),
    ("restores", ("scheduler", "restores"), "{:.0f}"),
    ("tool time, s", ("tool_s", "total"), "{:.1f}"),
    ("resolved", ("agents", "resolved"), "{:.0f}"),
    ("environment disk, peak", ("disk", "peak_bytes"), "size"),
]
TRACE_FIGURES: list[tuple[str, Keys, str]] = [
    *FIGURES[:-2],
    ("imbalance of workers", ("imbalance", "mean"), "{:.3f}"),
]
"""Nothing is solved and nothing stored where no tools run; where the programs' memory lies matters all the same."""

SAME_FOR_ALL: list[Keys] = [("workload",), ("kind",), ("tasks_are",), ("agents", "asked"), ("engine",), ("shape",)] + [
    ("given", key) for key in ("work_digest", "max_steps", "duration_s")
]
SAME_OUTPUT: list[Keys] = [("done", "steps"), ("done", "output_tokens")]
SAME_TRACE: list[Keys] = [("trace", key) for key in ("digest", "programs", "duration_s", "start", "seed")]
COMMON = ("workload", "kind", "tasks_are", "profile", "engine", "time_model", "model", "seed", "judged")
"""What all arms share; the first run says it."""

Arms = dict[str, list[dict[str, Any]]]
"""Name → summaries, one a repeat, interleaved in time."""


def value_at(summary: dict[str, Any], path: Keys) -> Any:
    value: Any = summary
    for key in path:
        value = value[key]
    return value


def compare(loads: Sequence[Arms]) -> dict[str, Any]:
    """Means, intervals and ratios to the first arm. ``loads``: the arms at each number of agents.

    Raises:
        UsageError: the runs cannot be compared; the message says which, and why.
    """
    if not loads or not any(loads[0].values()):
        raise UsageError("there is nothing to compare")
    found = [_one_load(arms) for arms in loads]
    firsts = [_first(arms) for arms in loads]
    for one in firsts[1:]:
        _refuse_difference("a sweep's loads", [("first", firsts[0]), (str(one["agents"]["asked"]), one)])
    return {
        "schema": SCHEMA,
        "arms": list(loads[0]),
        **{key: firsts[0][key] for key in COMMON},
        "loads": sorted(found, key=lambda load: load["agents"]),
    }


def _first(arms: Arms) -> dict[str, Any]:
    return next(iter(arms.values()))[0]


def _one_load(arms: Arms) -> dict[str, Any]:
    _refuse(arms)
    names, first = list(arms), _first(arms)
    figures = []
    for label, path, form in TRACE_FIGURES if first["kind"] == "trace" else FIGURES:
        values = {name: [float(value_at(s, path)) for s in ran] for name, ran in arms.items()}
        base = values[names[0]]
        row: dict[str, Any] = {"figure": label, "form": form, "arms": {}}
        for name in names:
            entry: dict[str, Any] = {**_spread(values[name]), "values": values[name]}
            if name != names[0]:
                entry["ratio"] = ratio(base, values[name])
            row["arms"][name] = entry
        figures.append(row)
    return {
        "agents": first["agents"]["asked"],
        "repeats": len(arms[names[0]]),
        "figures": figures,
        "space_time": {name: _mean_uses(ran) for name, ran in arms.items()},
        "models": {name: _mean_models(ran) for name, ran in arms.items()},
        "host_lag": max((s["host_lag"] for ran in arms.values() for s in ran if "host_lag" in s), default=None),
        "saturated": any(map(saturated, itertools.chain.from_iterable(arms.values()))),
        "warnings": list(_warnings(arms)),
        "runs": {name: [s["run"] for s in ran] for name, ran in arms.items()},
    }


# ------------------------------------------------------------------ intervals


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@cache
def _draws(count: int) -> list[tuple[int, ...]]:
    """Which repeats each draw of the bootstrap takes; the same ones every time."""
    if count**count <= DRAWS:
        return list(itertools.product(range(count), repeat=count))
    chance = random.Random(0)  # noqa: S311 - a resampling, no secret
    return [tuple(chance.choices(range(count), k=count)) for _ in range(DRAWS)]


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, range, and the mean's interval; ``None`` with too few repeats."""
    means = [_mean([values[n] for n in draw]) for draw in _draws(len(values))] if len(values) >= REPEATS else []
    return {
        "mean": _mean(values), "min": min(values), "max": max(values),
        "low": percentile(means, 0.025) if means else None, "high": percentile(means, 0.975) if means else None,
    }  # fmt: skip


def ratio(base: Sequence[float], other: Sequence[float]) -> dict[str, Any] | None:
    """Ratio of the means with its interval; ``None`` where the base is 0."""
    if not _mean(base):
        return None
    drawn = []
    if len(base) == len(other) >= REPEATS:
        for draw in _draws(len(base)):
            below = sum(base[n] for n in draw)
            if below:
                drawn.append(sum(other[n] for n in draw) / below)
    return {
        "of_means": _mean(other) / _mean(base),
        "low": percentile(drawn, 0.025) if drawn else None, "high": percentile(drawn, 0.975) if drawn else None,
    }  # fmt: skip


def _mean_uses(ran: list[dict[str, Any]]) -> dict[str, float]:
    uses = ("decode", "prefill", "recompute", "caching", "unused")
    return {use: _mean([s["kv_space_time"].get(use, 0.0) for s in ran]) for use in uses}


def _mean_models(ran: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    names = sorted({name for s in ran for name in s["models"]})
    return {
        name: {key: _mean([s["models"].get(name, {}).get(key, 0) for s in ran]) for key in OF_A_MODEL}
        for name in names
    }  # fmt: skip


# ------------------------------------------------------------------ what makes a comparison worthless, or doubtful


def saturated(summary: dict[str, Any]) -> bool:
    """Whether the programs of a run had to contend for KV space at all."""
    latency = summary["latency_s"]["mean"]
    waited = summary["held_s"]["mean"] / latency if latency else 0.0
    return bool(max(summary["load"]["over_capacity"], waited) > SATURATED)


def _warnings(arms: Arms) -> Iterable[str]:
    everything = [s for ran in arms.values() for s in ran]
    agents, repeats = everything[0]["agents"]["asked"], len(next(iter(arms.values())))
    if not any(map(saturated, everything)):
        fullest = max(s["load"]["max"] for s in everything)
        yield (
            f"the load of {agents} agents was below saturation: {percent(fullest)} of the KV space was reserved at "
            "most, and hardly anybody waited for a place. Policies then do the same, so these ratios say nothing about "
            "them: use more agents"
        )
    if repeats < REPEATS:
        yield (
            f"too few repeats: {repeats} of each arm at {agents} agents; with fewer than {REPEATS} there is no "
            f"interval, and a difference may be chance (--repeats {REPEATS})"
        )
    lag = max((s["host_lag"] for s in everything if "host_lag" in s), default=0.0)
    if lag > LAG_THAT_SHOWS:
        yield (
            f"host lag {percent(lag)} at {agents} agents: this machine was too slow for what it emulated, and the "
            "figures show it"
        )
    drifted = {name: sum(s["drift"]["steps"] for s in ran) for name, ran in arms.items()}
    if any(drifted.values()):
        told = ", ".join(f"{name} {count}" for name, count in drifted.items())
        yield f"steps whose tools returned something else than was recorded: {told}"


def _refuse(arms: Arms) -> None:
    """``UsageError`` for runs that cannot be set beside each other."""
    everything = [(name, s) for name, ran in arms.items() for s in ran]
    counts = {name: len(ran) for name, ran in arms.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UsageError(f"the arms have different numbers of repeats: {told}", hint="name as many runs of each arm")
    for name, summary in everything:
        errors = summary["errors"]
        if errors["limit"] is not None and errors["share"] > errors["limit"]:
            raise UsageError(
                f"run {summary['run']} of arm {name!r} has errors above its limit: {errors['failed']} programs failed "
                f"({percent(errors['share'])}), {percent(errors['limit'])} are allowed",
                details=list(errors["messages"])[:3],
            )
        if not summary["complete"]:
            raise UsageError(f"run {summary['run']} of arm {name!r} did not end: it cannot be compared")
    _refuse_difference("arms", everything)
    first_name, first = everything[0]
    for name, summary in everything[1:]:
        for path in _what_must_agree(first):
            ours, theirs = value_at(first, path), value_at(summary, path)
            if ours != theirs:
                raise UsageError(
                    f"arms did different work: {'.'.join(path)} is {ours} in {first_name!r} ({first['run']}) "
                    f"and {theirs} in {name!r} ({summary['run']})"
                )


def _refuse_difference(who: str, everything: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """``UsageError`` for other models, other seeds and other tasks."""
    first_name, first = everything[0]
    for name, summary in everything[1:]:
        for key, said in (("model", "ran different models"), ("seed", "drew with different seeds")):
            if first[key] != summary[key]:
                raise UsageError(
                    f"{who} {said}: {first[key]} in {first_name!r} ({first['run']}) "
                    f"and {summary[key]} in {name!r} ({summary['run']})"
                )
        ours, theirs = Counter(first["tasks"]), Counter(summary["tasks"])
        if who == "arms" and ours != theirs:
            raise UsageError(
                f"arms worked on different tasks: only {first_name!r} ({first['run']}) has {_few(ours - theirs)}; "
                f"only {name!r} ({summary['run']}) has {_few(theirs - ours)}"
            )


def _few(tasks: Counter[str]) -> str:
    names = sorted(tasks)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "none") + more


def _what_must_agree(summary: dict[str, Any]) -> list[Keys]:
    """Paths of the figures that are the same for the same work. What was cut off by the clock got as far as it got."""
    if summary["kind"] == "replay":
        return SAME_FOR_ALL + ([] if summary["ended"] in BY_CLOCK else SAME_OUTPUT)
    if summary["kind"] == "trace":
        return SAME_FOR_ALL + SAME_TRACE + (SAME_OUTPUT if summary["trace"]["programs"] else [])
    return SAME_FOR_ALL


# ------------------------------------------------------------------ arms of stored runs, and limits


def arms_of(summaries: Sequence[dict[str, Any]], named: dict[str, list[str]] | None = None) -> list[Arms]:
    """Summaries sorted into arms at each number of agents.

    ``named``: arm → the runs that are its; without it runs of one policy (and profile, where these differ) are an arm.
    """
    profiles = {s["profile"] for s in summaries}
    of_run = {run: arm for arm, runs in (named or {}).items() for run in runs}
    found: dict[int, Arms] = {}
    for s in summaries:
        arm = of_run.get(s["run"]) or (s["policy"] if len(profiles) == 1 else f"{s['policy']} on {s['profile']}")
        found.setdefault(s["agents"]["asked"], {}).setdefault(arm, []).append(s)
    order = list(dict.fromkeys(arm for arms in found.values() for arm in arms))
    for agents, arms in found.items():
        missing = [arm for arm in order if arm not in arms]
        if missing:
            raise UsageError(f"there is no run of arm {missing[0]!r} with {agents} agents, as there is of the others")
    if len(order) < 2:
        raise UsageError(
            f"all runs belong to one arm, {order[0]!r}" if order else "there is nothing to compare",
            hint="say which are which: --runs old=RUN,RUN --runs new=RUN,RUN",
        )
    return [{arm: arms[arm] for arm in order} for _, arms in sorted(found.items())]


@dataclass(frozen=True, slots=True)
class Limit:
    """``ARM/BASE=RATIO``: the least ratio of steps/min, at the largest number of agents, that is good enough."""

    arm: str
    base: str
    least: float

    @classmethod
    def parse(cls, text: str, arms: Iterable[str]) -> Limit:
        """``UsageError`` for anything else."""
        names, equals, number = text.partition("=")
        arm, slash, base = names.partition("/")
        try:
            least = float(number)
        except ValueError:
            least = math.nan
        if not (equals and slash and math.isfinite(least) and least > 0):
            raise UsageError(f"--fail-below wants ARM/BASE=RATIO, not {text!r}", hint="as in thunder/baseline=1.2")
        known = list(arms)
        for name in (arm, base):
            if name not in known:
                raise UsageError(f"--fail-below names arm {name!r}", hint=f"arms: {', '.join(known)}")
        return cls(arm, base, least)

    def judge(self, result: dict[str, Any]) -> str | None:
        """Why the comparison is not good enough; ``None`` if it is."""
        load = result["loads"][-1]
        row = next(row for row in load["figures"] if row["figure"] == STEPS)
        found = ratio(row["arms"][self.base]["values"], row["arms"][self.arm]["values"])
        what = f"{self.arm}/{self.base} at {load['agents']} agents"
        if not load["saturated"]:
            return f"{what}: the load was below saturation, so no ratio means anything"
        if found is None:
            return f"{what}: {self.base} made no steps"
        if found["of_means"] >= self.least:
            return None
        between = "" if found["low"] is None else f" [{found['low']:.2f} – {found['high']:.2f}]"
        return f"{what}: {found['of_means']:.2f}×{between} of the {STEPS}, below {self.least:g}"
