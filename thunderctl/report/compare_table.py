"""A comparison as a person reads it: what it found in a sentence, and tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from thunderctl.report.compare import STEPS
from thunderctl.report.tables import KIND_MEANS, behaviour, engine_line, lag_line, percent, size


def row_of(load: dict[str, Any], figure: str) -> dict[str, Any]:
    """One figure of all arms."""
    found: dict[str, Any] = next(row for row in load["figures"] if row["figure"] == figure)
    return found


def written(row: dict[str, Any]) -> Callable[[float], str]:
    """How values of this figure are written."""
    form: str = row["form"]
    return size if form == "size" else form.format


def with_interval(row: dict[str, Any], arm: str) -> str:
    """Mean, and its interval in brackets; with too few repeats the range over them."""
    entry, write = row["arms"][arm], written(row)
    if len(entry["values"]) == 1:
        return write(entry["mean"])
    low, high = (entry["min"], entry["max"]) if entry["low"] is None else (entry["low"], entry["high"])
    return f"{write(entry['mean'])}  [{write(low)} – {write(high)}]"


def ratio_text(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    if found["low"] is None:
        return f"{found['of_means']:.2f}×"
    return f"{found['of_means']:.2f}×  [{found['low']:.2f} – {found['high']:.2f}]"


def columns(result: dict[str, Any]) -> list[str]:
    names = result["arms"]
    return ["figure", *names, *(f"{name} ÷ {names[0]}" for name in names[1:])]


def cells(result: dict[str, Any], load: dict[str, Any]) -> list[list[str]]:
    """A row a figure."""
    names = result["arms"]
    return [
        [
            row["figure"],
            *(with_interval(row, name) for name in names),
            *(ratio_text(row["arms"][name].get("ratio")) for name in names[1:]),
        ]
        for row in load["figures"]
    ]


def sweep_columns(result: dict[str, Any]) -> list[str]:
    return ["agents", "arm", STEPS, "ratio", "hit rate", "latency p50, s", "p90, s", "pauses"]


def sweep_cells(result: dict[str, Any]) -> list[list[str]]:
    """A row for each number of agents and arm."""
    return [
        [
            str(load["agents"]), name, with_interval(row_of(load, STEPS), name),
            ratio_text(row_of(load, STEPS)["arms"][name].get("ratio")) or "1",
            *(
                written(row_of(load, label))(row_of(load, label)["arms"][name]["mean"])
                for label in ("cache hit rate", "latency p50, s", "latency p90, s", "pauses")
            ),
        ]
        for load in result["loads"]
        for name in result["arms"]
    ]  # fmt: skip


def head(result: dict[str, Any]) -> str:
    loads = result["loads"]
    agents, repeats = ", ".join(str(load["agents"]) for load in loads), loads[0]["repeats"]
    return (
        f"{result['workload']} · profile {result['profile']} · {agents} agents · "
        f"{repeats} interleaved repeat{'s' if repeats > 1 else ''}, fresh workers each"
    )


def warnings(result: dict[str, Any]) -> list[str]:
    """Of the whole comparison; what holds for every load is said once."""
    return list(dict.fromkeys(line for load in result["loads"] for line in load["warnings"]))


def notes(result: dict[str, Any]) -> list[str]:
    """What a reader has to know before any figure."""
    lags = [load["host_lag"] for load in result["loads"] if load["host_lag"] is not None]
    lines = [engine_line(result) if result["engine"] in ("emulated", "simulated") else None]
    lines.append(lag_line({"host_lag": max(lags)}) if lags else None)
    told = f"{KIND_MEANS[result['kind']]}; tasks {result['tasks_are']}"
    model = [f"model {result['model']}"] if result["model"] else []
    brackets = (
        "in brackets 95% intervals, a bootstrap over repeats"
        if result["loads"][0]["figures"][0]["arms"][result["arms"][0]]["low"] is not None
        else "in brackets the range over repeats"
    )
    return [told, *model, *(line for line in lines if line), brackets]


def headline(result: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """Of the largest number of agents: the best arm against the first one. A sentence, and three figures."""
    load, base = result["loads"][-1], result["arms"][0]
    steps, hits = row_of(load, STEPS), row_of(load, "cache hit rate")
    best = max(result["arms"][1:], key=lambda name: float(steps["arms"][name]["mean"]))
    found = steps["arms"][best].get("ratio")
    times = f"{found['of_means']:.2f}×" if found else "–"
    between = f" [{found['low']:.2f} – {found['high']:.2f}]" if found and found["low"] is not None else ""
    rates = [steps["arms"][name]["mean"] for name in (best, base)]
    shares = [hits["arms"][name]["mean"] for name in (best, base)]
    doubt = "" if load["saturated"] else "Below saturation, so it says nothing: "
    return (
        f"{doubt}{behaviour(result)}: at {load['agents']} agents {best} makes {times}{between} the steps of {base} "
        f"({rates[0]:.0f} against {rates[1]:.0f} a minute), with a cache hit rate of {percent(shares[0])} against "
        f"{percent(shares[1])}.",
        [
            (times, f"{STEPS} of {best} ÷ {base} at {load['agents']} agents{between}"),
            (f"{rates[0]:.0f}", f"{STEPS} of {best} ({base}: {rates[1]:.0f})"),
            (percent(shares[0]), f"cache hit rate of {best} ({base}: {percent(shares[1])})"),
        ],
    )


def compare_table(result: dict[str, Any]) -> RenderableType:
    """The comparison for a terminal: every figure of one load, or the main ones of several."""
    one = len(result["loads"]) == 1
    table = Table(pad_edge=False)
    names = columns(result) if one else sweep_columns(result)
    for n, name in enumerate(names):
        left = n == 0 or (not one and n == 1)
        table.add_column(
            Text(name), justify="left" if left else "right", no_wrap=n == 0, style="bold" if n == 0 else ""
        )
    rows = cells(result, result["loads"][0]) if one else sweep_cells(result)
    for row in rows:
        table.add_row(*map(Text, row))
    return Group(
        Text(head(result), style="bold"),
        *(Text(line, style="dim") for line in notes(result)),
        *(Text(line, style="yellow") for line in warnings(result)),
        table,
        Text(headline(result)[0], style="bold"),
    )
