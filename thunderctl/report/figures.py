"""A run's plots: the series of ``report/series.py`` as figures of a page. Nothing is computed here."""

from __future__ import annotations

from html import escape
from typing import Any

from thunderctl.report import series
from thunderctl.report.disk import run_figure
from thunderctl.report.page import COLOURS, Figure, State, Timeline
from thunderctl.report.stats import RunRecords, last_words, window_of

RED, BLUE, GREEN, AMBER, VIOLET, TEAL = COLOURS
GREY = "#8b949e"
USE_COLOURS = {"decode": GREEN, "prefill": BLUE, "recompute": RED, "caching": AMBER, "unused": GREY}
POPULATION_COLOURS = {"active": GREEN, "paused": AMBER, "waiting for a first place": GREY}
WORKERS_SHOWN = 16
"""Lines for more workers than this cannot be told apart; the fullest ones are kept."""


def of_run(run: RunRecords, programs: list[series.Program]) -> list[Figure]:
    """Every plot that the run has something for."""
    found = [
        _timeline(run, programs),
        _throughput(run),
        _populations(run, programs),
        _kv(run),
        _hit_rate(run),
        _space_time(run),
        _pauses(programs),
        _latency(run),
        _prepared(run),
        run_figure(list(run.lines("disk"))),
    ]
    return [figure for figure in found if figure is not None]


def _line(name: str, points: series.Line, colour: str, **more: Any) -> dict[str, Any]:
    at, values = points
    style = {"color": colour, "width": 2.5, **more.pop("line", {})}
    return {"type": "scatter", "mode": "lines", "name": escape(name), "x": at, "y": values, "line": style, **more}


def _axes(vertical: str, horizontal: str = "seconds", **more: Any) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": horizontal}},
        "yaxis": {"title": {"text": vertical}, "rangemode": "tozero", **more},
    }


def _throughput(run: RunRecords) -> Figure | None:
    found = series.steps_per_min(run)
    if not found.values:
        return None
    note = f"Steps that ended (model call and tool), in stretches of {found.width:.3g} s."
    line = _line("steps/min", (found.at, [round(v, 2) for v in found.values]), BLUE, line={"shape": "hvh"})
    return Figure("Throughput", note, [line], _axes("steps/min"))


def _populations(run: RunRecords, programs: list[series.Program]) -> Figure | None:
    found = series.populations(programs, window_of(run))
    if not found:
        return None
    note = "Active: placed on a worker, reasoning or acting. Paused: its KV was given up for others."
    data = [
        _line(name, points, POPULATION_COLOURS[name], stackgroup="programs", line={"width": 0.5, "shape": "hv"})
        for name, points in found.items()
    ]
    return Figure("Programs active and paused", note, data, _axes("programs"))


def _kv(run: RunRecords) -> Figure | None:
    found = series.kv(run)
    if not found:
        return None
    sizes = sorted({kv.capacity_tokens for kv in found.values()})
    note = (
        "Tokens of the programs placed on a worker ÷ its KV capacity ("
        + ", ".join(f"{size:,}" for size in sizes[:3])
        + " tokens); above 1 they do not fit."
    )
    data = []
    if len(found) == 1:
        worker, kv = next(iter(found.items()))
        data = [
            _line(f"{worker}: reserved", kv.reserved, BLUE),
            _line(f"{worker}: with a call in flight", kv.reasoning, GREEN, line={"width": 1.5}),
            _line(f"{worker}: in use by the engine", kv.engine, GREY, line={"width": 1.5, "dash": "dot"}),
        ]
    else:
        fullest = sorted(found, key=lambda name: -sum(found[name].reserved[1]))[:WORKERS_SHOWN]
        if len(fullest) < len(found):
            note += f" The {WORKERS_SHOWN} fullest of {len(found)} workers."
        data = [
            _line(name, found[name].reserved, COLOURS[n % len(COLOURS)], line={
                "width": 1.5, "dash": ("solid", "dot", "dash", "dashdot")[n // len(COLOURS) % 4],
            })
            for n, name in enumerate(sorted(fullest))
        ]  # fmt: skip
    ends = [at for kv in found.values() for at in (kv.reserved[0][0], kv.reserved[0][-1])]
    capacity = ([min(ends), max(ends)], [1.0, 1.0])
    data.append(_line("capacity", capacity, RED, line={"width": 1.5, "dash": "dash"}))
    return Figure("KV reserved", note, data, _axes("share of KV capacity"))


def _hit_rate(run: RunRecords) -> Figure | None:
    at, shares = series.hit_rate(run)
    if not at:
        return None
    line = _line("cache hit rate", (at, [round(share, 4) for share in shares]), GREEN)
    note = "Share of the prompt tokens of the steps that ended which need not be computed."
    return Figure("Cache hit rate", note, [line], _axes("share", range=[0, 1.02]))


def _space_time(run: RunRecords) -> Figure | None:
    at, shares = series.space_time(run)
    if len(at) < 2:
        return None
    data = [
        _line(use, (at, values), USE_COLOURS[use], stackgroup="uses", line={"width": 0.5})
        for use, values in shares.items()
    ]
    note = (
        "KV token·seconds by use, as shares of what the workers offered. A call is booked when it ends, and without "
        "admission control more is booked than there is, so the sum may be above 1."
    )
    return Figure("Where KV space and time went", note, data, _axes("share"))


def _pauses(programs: list[series.Program]) -> Figure | None:
    found = series.pauses(programs)
    if not found:
        return None
    line = _line(f"{len(found)} pauses", series.shares_within(found), AMBER, line={"shape": "hv"})
    note = "From a pause to the restore: the share of all pauses that took no longer."
    return Figure("Pause times", note, [line], _axes("share of pauses", "seconds", range=[0, 1.02]))


def _latency(run: RunRecords) -> Figure | None:
    steps = list(run.lines("steps"))
    if not steps:
        return None
    data = [
        _line("step latency", series.shares_within([s["latency_s"] for s in steps]), BLUE),
        _line(
            "without time held by the scheduler",
            series.shares_within([s["latency_s"] - s["held_s"] for s in steps]),
            TEAL,
            line={"dash": "dash"},
        ),
    ]
    note = "From sending a model call to its whole answer: the share of all steps that took no longer."
    layout = _axes("share of steps", "seconds", range=[0, 1.02])
    return Figure("Step latency", note, data, layout)


def _prepared(run: RunRecords) -> Figure | None:
    found = [r for r in last_words(run.lines("rollouts")) if "prepare_s" in r]
    if not found:
        return None
    found.sort(key=lambda r: float(r.get("started", 0.0)))
    at = [round(float(r.get("started", 0.0)), 2) for r in found]
    data = [
        {
            "type": "scatter", "mode": "markers", "name": name, "x": at,
            "y": [round(float(r.get(key, 0.0)), 3) for r in found],
            "marker": {"color": colour, "size": 7, "symbol": mark},
        }
        for name, key, colour, mark in (
            ("prepared in", "prepare_s", BLUE, "circle"),
            ("of which the agent waited", "environment_wait_s", RED, "x"),
        )
    ]  # fmt: skip
    note = "One mark a tool environment, where its agent began. What agents did not wait for was hidden by other work."
    return Figure("Environment preparation", note, data, _axes("seconds"))


def _timeline(run: RunRecords, programs: list[series.Program]) -> Figure | None:
    kept = series.drawable(programs)
    if not any(program.spans for program in kept):
        return None
    note = (
        "A row a program, by when they began: waiting for a place, paused, reasoning (a model call), acting (a tool). "
        "What a program was at when the run was cut off is not stored. Drag to zoom, double-click to go back; search "
        "for a program, a task or a status."
    )
    if len(kept) < len(programs):
        note += f" The first {len(kept)} of {len(programs)} programs."
    states = [
        State(name, colour, thickness, _spans(kept, name))
        for name, colour, thickness in (
            ("waiting", GREY, 1.0), ("paused", AMBER, 1.0), ("acting", BLUE, 0.55), ("reasoning", GREEN, 0.55),
        )
    ]  # fmt: skip
    began, ended = window_of(run)
    rows = [f"{p.name} {p.task} {p.status}".strip() for p in kept]
    ends = max(ended, max(p.ended for p in kept))
    timeline = Timeline(rows, states, (min(began, min(p.began for p in kept)), ends))
    return Figure("Programs over time", note, layout={"xaxis": {"title": {"text": "seconds"}}}, timeline=timeline)


def _spans(programs: list[series.Program], state: str) -> list[float]:
    return [
        value
        for row, program in enumerate(programs)
        for begin, end in getattr(program, state)
        for value in (row, round(begin, 2), round(end, 2))
    ]
