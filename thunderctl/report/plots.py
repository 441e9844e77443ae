"""A sweep's figures, and the page that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from thunderctl.report.page import COLOURS, Figure, document, section, table, tiles
from thunderctl.report.sweep import Sweep, cells, columns, headline, legend, paper_note

DASHES = ("solid", "dot", "dash", "dashdot")
"""Of workers."""
POINTS = 300
"""A line over time has no more points than this."""


def figures(sweep: Sweep) -> list[Figure]:
    """Throughput, hit rate and latency over agents; with several workers their imbalance and memory too."""
    found = [
        _over_agents(
            sweep,
            "Throughput (simulated)",
            "Model calls that ended, with their tools. The paper's Figure 4a in shape.",
            "steps/min",
            {"": lambda o: o.steps_per_min},
        ),
        _over_agents(
            sweep,
            "Cache hit rate (simulated)",
            "Share of prompt tokens that need not be computed. The paper's Figure 5a in shape.",
            "hit rate",
            {"": lambda o: o.hit_rate},
            top=1,
        ),
        _over_agents(
            sweep,
            "Latency of a model call (simulated)",
            "From sending to the whole answer, time held by the scheduler included.",
            "seconds",
            {" p90": lambda o: o.summary["latency_s"]["p90"], " p50": lambda o: o.summary["latency_s"]["p50"]},
        ),
    ]
    if sweep.workers > 1:
        found.append(
            _over_agents(
                sweep,
                "Imbalance between workers (simulated)",
                "Fullest less emptiest worker, as shares of their KV capacity, mean over time.",
                "share of capacity",
                {"": lambda o: o.imbalance},
            )
        )
        found += [_memory(sweep, policy) for policy in sweep.policies]
    return found


def _over_agents(
    sweep: Sweep, title: str, note: str, unit: str, lines: dict[str, Any], top: float | None = None
) -> Figure:
    """One line for each policy and each entry of ``lines`` (what is added to its name → the figure)."""
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": escape(policy + suffix),
            "x": [o.agents for o in sweep.of(policy)],
            "y": [round(float(value(o)), 4) for o in sweep.of(policy)],
            "line": {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[dash], "width": 2.5},
            "marker": {"size": 8},
        }
        for number, policy in enumerate(sweep.policies)
        for dash, (suffix, value) in enumerate(lines.items())
    ]
    vertical: dict[str, Any] = {"title": {"text": unit}, "rangemode": "tozero"}
    if top is not None:
        vertical["range"] = [0, top * 1.02]
    horizontal = {"title": {"text": "agents at once"}, "tickvals": sweep.agents, "rangemode": "tozero"}
    return Figure(title, note, data, {"xaxis": horizontal, "yaxis": vertical})


def memory_lines(memory: Mapping[str, Sequence[tuple[float, float]]]) -> list[dict[str, Any]]:
    """A line for each worker, of (seconds, share of its KV capacity)."""
    data = []
    for number, (worker, line) in enumerate(memory.items()):
        every = max(1, -(-len(line) // POINTS))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": escape(worker),
                "x": [round(at, 1) for at, _ in line[::every]],
                "y": [round(share, 4) for _, share in line[::every]],
                "line": {
                    "color": COLOURS[number % len(COLOURS)],
                    "dash": DASHES[number // len(COLOURS) % len(DASHES)],
                    "width": 1.5,
                },
            }
        )
    return data


def _memory(sweep: Sweep, policy: str) -> Figure:
    """Each worker's memory over time, at the largest number of agents."""
    agents = sweep.agents[-1]
    memory = sweep.at(agents, policy).memory
    top = max(
        (share for name in sweep.policies for line in sweep.at(agents, name).memory.values() for _, share in line),
        default=1.0,
    )
    layout = {
        "xaxis": {"title": {"text": "seconds (simulated)"}},
        "yaxis": {"title": {"text": "share of KV capacity"}, "range": [0, max(1.0, top) * 1.05]},
    }
    return Figure(
        f"Memory of each worker under {policy}, {agents} agents (simulated)",
        "Tokens of the programs placed on a worker ÷ its KV capacity; above 1 they do not fit. "
        "The paper's Figure 2a in shape.",
        memory_lines(memory),
        layout,
    )


def page(sweep: Sweep) -> str:
    """``report.html``."""
    head = headline(sweep)
    paper = paper_note(sweep)
    return document(
        sentence=head.sentence,
        title=sweep.title,
        drawn=figures(sweep),
        big=tiles(head.figures),
        before=f"<p>{escape(paper)}</p>" if paper else "",
        after=section("settings", "All settings (simulated)", _table(sweep), "long"),
    )


def _table(sweep: Sweep) -> str:
    rows = [cells(sweep, sweep.at(agents, policy)) for agents in sweep.agents for policy in sweep.policies]
    return table(columns(sweep), rows) + f"<p>{escape(legend(sweep))}</p>"
