"""``report.html`` of a comparison: the headline, doubts, A/B plots (or lines over agents), tables, runs."""

from __future__ import annotations

from html import escape
from typing import Any

from thunderctl.report import compare_table as words
from thunderctl.report.compare import STEPS
from thunderctl.report.figures import USE_COLOURS
from thunderctl.report.page import COLOURS, Figure, document, section, table, tiles

PLOTS = (
    (STEPS, "Throughput", "Model calls that ended, with their tools."),
    ("cache hit rate", "Cache hit rate", "Share of prompt tokens that need not be computed."),
    ("latency p50, s", "Latency of a model call, median", "From sending to the whole answer, pauses included."),
    ("latency p90, s", "Latency of a model call, p90", "Nine of ten calls took no longer."),
    ("tokens computed again", "Tokens computed again", "That a program had had in the cache before."),
)  # fmt: skip
"""What is plotted: the figure, the plot's title, what it shows."""
PAPER = {STEPS: "4a", "cache hit rate": "5a"}
"""Figures of the ThunderAgent paper (arXiv 2602.13692) that show the same over numbers of agents."""


def page(result: dict[str, Any]) -> str:
    """The page as HTML."""
    sentence, big = words.headline(result)
    several = len(result["loads"]) > 1
    drawn = [_over_agents(result, *one) for one in PLOTS] if several else _side_by_side(result)
    before = "".join(f'<p class="warn" role="note">{escape(line)}</p>' for line in words.warnings(result))
    before += "".join(f"<p>{escape(line)}</p>" for line in words.notes(result))
    after = ""
    if several:
        rows = table(words.sweep_columns(result), words.sweep_cells(result), "All loads", "settings")
        after += section("loads", "All loads", rows, "long")
    for load in result["loads"]:
        title = f"Figures at {load['agents']} agents"
        inside = table(words.columns(result), words.cells(result, load), title, "figures")
        after += section(f"figures-{load['agents']}", title, inside, "long")
    after += _models(result) + section("runs", "Runs", _runs(result), "long")
    return document(
        sentence=sentence, title=words.head(result), drawn=drawn, big=tiles(big), before=before, after=after
    )


def _colour(result: dict[str, Any], arm: str) -> str:
    return COLOURS[result["arms"].index(arm) % len(COLOURS)]


def _bars(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """From the interval's low end to its high end; the range where there are too few repeats for one."""
    ends = [(e["min"], e["max"]) if e["low"] is None else (e["low"], e["high"]) for e in entries]
    return {
        "type": "data", "symmetric": False, "thickness": 1.5, "width": 6,
        "array": [high - e["mean"] for e, (_, high) in zip(entries, ends, strict=True)],
        "arrayminus": [e["mean"] - low for e, (low, _) in zip(entries, ends, strict=True)],
    }  # fmt: skip


def _over_agents(result: dict[str, Any], figure: str, title: str, note: str) -> Figure:
    """A line an arm over the numbers of agents."""
    agents = [load["agents"] for load in result["loads"]]
    data = []
    for arm in result["arms"]:
        entries = [words.row_of(load, figure)["arms"][arm] for load in result["loads"]]
        data.append({
            "type": "scatter", "mode": "lines+markers", "name": escape(arm), "x": agents,
            "y": [e["mean"] for e in entries], "error_y": _bars(entries),
            "line": {"color": _colour(result, arm), "width": 2.5}, "marker": {"size": 8},
        })  # fmt: skip
    if figure in PAPER:
        note += f" The paper's Figure {PAPER[figure]} in shape."
    vertical: dict[str, Any] = {"title": {"text": figure}, "rangemode": "tozero"}
    if "rate" in figure:
        vertical["range"] = [0, 1.02]
    horizontal = {"title": {"text": "agents at once"}, "tickvals": agents, "rangemode": "tozero"}
    return Figure(title, note, data, {"xaxis": horizontal, "yaxis": vertical})


def _side_by_side(result: dict[str, Any]) -> list[Figure]:
    """Plots of one load: ratios, each main figure by arm with a dot a repeat, and where KV space went."""
    load = result["loads"][0]
    found = [_ratios(result, load)]
    found += [_by_arm(result, load, *one) for one in PLOTS]
    uses = [
        {"type": "bar", "name": use, "x": [escape(arm) for arm in result["arms"]],
         "y": [load["space_time"][arm][use] for arm in result["arms"]], "marker": {"color": colour}}
        for use, colour in USE_COLOURS.items()
    ]  # fmt: skip
    note = "KV token·seconds by use, as shares of what the workers offered; above 1 more was booked than there is."
    layout = {"barmode": "stack", "yaxis": {"title": {"text": "share"}}}
    return [*found, Figure("Where KV space and time went", note, uses, layout)]


def _ratios(result: dict[str, Any], load: dict[str, Any]) -> Figure:
    """Each figure's ratio to the first arm, on a logarithmic axis so that half and twice are equally far from 1."""
    base = result["arms"][0]
    data = []
    for arm in result["arms"][1:]:
        rows = [
            (row["figure"].strip(), row["arms"][arm]["ratio"])
            for row in reversed(load["figures"])
            if row["arms"][arm].get("ratio") and row["arms"][arm]["ratio"]["of_means"] > 0
        ]
        values = [r["of_means"] for _, r in rows]
        data.append({
            "type": "scatter", "mode": "markers", "name": escape(f"{arm} ÷ {base}"), "x": values,
            "y": [name for name, _ in rows], "marker": {"color": _colour(result, arm), "size": 10},
            "error_x": {
                "type": "data", "symmetric": False,
                "array": [(r["high"] or v) - v for (_, r), v in zip(rows, values, strict=True)],
                "arrayminus": [v - (r["low"] or v) for (_, r), v in zip(rows, values, strict=True)],
            },
        })  # fmt: skip
    layout = {
        "xaxis": {"type": "log", "title": {"text": f"ratio to {escape(base)}"}},
        "hovermode": "closest",
        "shapes": [{"type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper",
                    "line": {"color": "#8b949e", "dash": "dash"}}],
    }  # fmt: skip
    return Figure("Ratios", f"Of the means, {base} is 1. Bars are 95% intervals, where there are any.", data, layout)


def _by_arm(result: dict[str, Any], load: dict[str, Any], figure: str, title: str, note: str) -> Figure:
    row = words.row_of(load, figure)
    data: list[dict[str, Any]] = []
    for arm in result["arms"]:
        entry = row["arms"][arm]
        data.append({
            "type": "bar", "name": escape(arm), "x": [escape(arm)], "y": [entry["mean"]],
            "error_y": _bars([entry]), "marker": {"color": _colour(result, arm)}, "width": 0.5,
        })  # fmt: skip
    dots = [(escape(arm), value) for arm in result["arms"] for value in row["arms"][arm]["values"]]
    data.append({
        "type": "scatter", "mode": "markers", "name": "single runs", "x": [arm for arm, _ in dots],
        "y": [value for _, value in dots], "marker": {"color": "#8b949e", "size": 8, "symbol": "x-thin-open"},
    })  # fmt: skip
    layout = {"yaxis": {"title": {"text": figure}, "rangemode": "tozero"}, "hovermode": "closest"}
    return Figure(title, note, data, layout)


def _models(result: dict[str, Any]) -> str:
    """Calls and cost by model, where the workload uses several."""
    rows = [
        [str(load["agents"]), arm, model, f"{used['calls']:,.1f}", f"{used['prompt_tokens']:,.0f}",
         f"{used['output_tokens']:,.0f}", f"{used['cost_usd']:.4f}"]
        for load in result["loads"] for arm, models in load["models"].items() for model, used in models.items()
    ]  # fmt: skip
    if not rows:
        return ""
    head = ("agents", "arm", "model", "calls", "prompt tokens", "output tokens", "USD")
    return section("models", "Models", table(head, rows, "Models"), "long")


def _runs(result: dict[str, Any]) -> str:
    rows = [
        [str(load["agents"]), arm, run]
        for load in result["loads"] for arm, runs in load["runs"].items() for run in runs
    ]  # fmt: skip
    again = " ".join(f"--runs {arm}={','.join(runs)}" for arm, runs in _all_runs(result).items())
    return table(("agents", "arm", "run"), rows, "Runs", "words") + f"<pre>thunderctl compare {escape(again)}</pre>"


def _all_runs(result: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for load in result["loads"]:
        for arm, runs in load["runs"].items():
            found.setdefault(arm, []).extend(runs)
    return found
