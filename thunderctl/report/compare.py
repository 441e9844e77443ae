"""Arms side by side. Arms that did different work are refused: their ratio would mean nothing."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from thunderctl.errors import UsageError
from thunderctl.report.tables import KIND_MEANS, engine_line, lag_line, size

FIGURES: list[tuple[str, tuple[str, ...], str]] = [
    ("steps/min", ("throughput", "steps_per_min"), "{:.1f}"),
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
TRACE_FIGURES: list[tuple[str, tuple[str, ...], str]] = [
    *FIGURES[:-2],
    ("imbalance of workers", ("imbalance", "mean"), "{:.3f}"),
]
"""Nothing is solved and nothing stored where no tools run; where the programs' memory lies matters all the same."""

SAME_FOR_ALL: list[tuple[str, ...]] = [("workload",), ("kind",), ("tasks_are",), ("agents", "asked"), ("engine",)]
SAME_OUTPUT: list[tuple[str, ...]] = [("throughput", "steps"), ("tokens", "output")]
SAME_TRACE: list[tuple[str, ...]] = [("trace", key) for key in ("digest", "programs", "duration_s", "start", "seed")]


def figure(summary: dict[str, Any], path: tuple[str, ...]) -> float:
    value: Any = summary
    for key in path:
        value = value[key]
    return float(value)


def compare(arms: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Means, spreads and ratios to the first arm. ``arms``: name → summaries, one a repeat, interleaved in time.

    A figure's ratio is that of the means; its spread is the smallest and the largest ratio between the n-th repeat of
    an arm and the n-th of the first arm, which ran beside it.
    """
    _refuse_different_work(arms)
    names = list(arms)
    result: dict[str, Any] = {"arms": names, "repeats": min(len(s) for s in arms.values()), "figures": []}
    for label, path, form in TRACE_FIGURES if _first(arms)["kind"] == "trace" else FIGURES:
        values = {name: [figure(s, path) for s in summaries] for name, summaries in arms.items()}
        base = values[names[0]]
        row: dict[str, Any] = {"figure": label, "form": form, "arms": {}}
        for name in names:
            mean = sum(values[name]) / len(values[name])
            entry: dict[str, Any] = {
                "mean": mean,
                "min": min(values[name]),
                "max": max(values[name]),
                "values": values[name],
            }
            base_mean = sum(base) / len(base)
            if name != names[0] and base_mean:
                pairs = [b / a for a, b in zip(base, values[name], strict=False) if a]
                entry["ratio"] = {"of_means": mean / base_mean, "min": min(pairs), "max": max(pairs)} if pairs else None
            row["arms"][name] = entry
        result["figures"].append(row)
    first = _first(arms)
    result |= {key: first[key] for key in ("workload", "kind", "tasks_are", "profile", "engine", "time_model")}
    result["host_lag"] = max((s["host_lag"] for ran in arms.values() for s in ran if "host_lag" in s), default=None)
    result["agents"] = first["agents"]["asked"]
    return result


def _first(arms: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return next(iter(arms.values()))[0]


def _what_must_agree(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Paths of the figures that are the same for the same work. What was cut off by the clock got as far as it got."""
    if summary["kind"] == "replay":
        return SAME_FOR_ALL + SAME_OUTPUT
    if summary["kind"] == "trace":
        return SAME_FOR_ALL + SAME_TRACE + (SAME_OUTPUT if summary["trace"]["programs"] else [])
    return SAME_FOR_ALL


def _refuse_different_work(arms: dict[str, list[dict[str, Any]]]) -> None:
    """Same workload, kind, agents; in replay the same number of steps and output tokens; of traces the same queue."""
    everything = [(name, s) for name, summaries in arms.items() for s in summaries]
    if not everything:
        raise UsageError("there is nothing to compare")
    first_name, first = everything[0]
    paths = _what_must_agree(first)
    for name, summary in everything:
        if not summary["complete"]:
            raise UsageError(f"run {summary['run']} of arm {name!r} did not end: it cannot be compared")
        for path in paths:
            ours, theirs = _plain(first, path), _plain(summary, path)
            if ours != theirs:
                raise UsageError(
                    f"arms did different work: {'.'.join(path)} is {ours} in {first_name!r} ({first['run']}) "
                    f"and {theirs} in {name!r} ({summary['run']})"
                )


def _plain(summary: dict[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = summary
    for key in path:
        value = value[key]
    return value


def compare_table(result: dict[str, Any]) -> RenderableType:
    """The comparison as a table: mean, in brackets the range over repeats; ratios likewise."""
    names = result["arms"]
    table = Table(pad_edge=False)
    table.add_column("", style="bold", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    for name in names[1:]:
        table.add_column(f"{name} ÷ {names[0]}", justify="right")
    for row in result["figures"]:
        cells = [row["figure"]]
        for name in names:
            e = row["arms"][name]
            shown = [
                size(v) if row["form"] == "size" else row["form"].format(v) for v in (e["mean"], e["min"], e["max"])
            ]
            cells.append(shown[0] if result["repeats"] == 1 else f"{shown[0]}  [{shown[1]} – {shown[2]}]")
        for name in names[1:]:
            r = row["arms"][name].get("ratio")
            if r is None:
                cells.append("")
            elif result["repeats"] == 1:
                cells.append(f"{r['of_means']:.2f}×")
            else:
                cells.append(f"{r['of_means']:.2f}×  [{r['min']:.2f} – {r['max']:.2f}]")
        table.add_row(*cells)
    head = (
        f"{result['workload']} · profile {result['profile']} · {result['agents']} agents · "
        f"{result['repeats']} interleaved repeat{'s' if result['repeats'] > 1 else ''}, fresh workers each"
    )
    notes = [Text(head, style="bold"), Text(f"{KIND_MEANS[result['kind']]}; tasks {result['tasks_are']}", style="dim")]
    lines = [engine_line(result)] if result["engine"] in ("emulated", "simulated") else []
    notes += [Text(line, style="dim") for line in [*lines, lag_line(result)] if line]
    return Group(*notes, table)
