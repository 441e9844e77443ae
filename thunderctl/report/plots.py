"""A sweep's figures, and the page that holds them: one file, no network, light or dark as the reader's system is.

Figures are Plotly's own JSON (``data`` and ``layout``); Plotly's script is written into the page. Whatever comes from
outside passes through ``escape``, for Plotly reads tags in its texts as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from typing import Any

from plotly.offline import get_plotlyjs

from thunderctl.report.sweep import Sweep, cells, columns, headline, legend, paper_note

COLOURS = ("#d1495b", "#2b7bba", "#3a9e5c", "#c08a2e", "#8a63b5", "#4bb3b3")
"""Of policies, in their order; told apart on white and on black."""
DASHES = ("solid", "dot", "dash", "dashdot")
"""Of workers."""
POINTS = 300
"""A line over time has no more points than this."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One plot and what it shows."""

    title: str
    note: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]


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


def _memory(sweep: Sweep, policy: str) -> Figure:
    """Each worker's memory over time, at the largest number of agents."""
    agents = sweep.agents[-1]
    memory = sweep.at(agents, policy).memory
    top = max(
        (share for name in sweep.policies for line in sweep.at(agents, name).memory.values() for _, share in line),
        default=1.0,
    )
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
    layout = {
        "xaxis": {"title": {"text": "seconds (simulated)"}},
        "yaxis": {"title": {"text": "share of KV capacity"}, "range": [0, max(1.0, top) * 1.05]},
    }
    return Figure(
        f"Memory of each worker under {policy}, {agents} agents (simulated)",
        "Tokens of the programs placed on a worker ÷ its KV capacity; above 1 they do not fit. "
        "The paper's Figure 2a in shape.",
        data,
        layout,
    )


def page(sweep: Sweep) -> str:
    """``report.html``."""
    head, drawn = headline(sweep), figures(sweep)
    tiles = "".join(f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in head.figures)
    plots = "".join(
        f"<section><h2>{escape(f.title)}</h2><p>{escape(f.note)}</p>"
        f'<div id="figure-{n}" class="figure"></div></section>'
        for n, f in enumerate(drawn)
    )
    paper = paper_note(sweep)
    # A "<" inside a script element could end it.
    data = json.dumps([{"data": f.data, "layout": f.layout} for f in drawn], allow_nan=False).replace("<", "\\u003c")
    return _PAGE.format(
        title=escape(sweep.title),
        sentence=escape(head.sentence),
        tiles=tiles,
        paper=f"<p>{escape(paper)}</p>" if paper else "",
        plots=plots,
        table=_table(sweep),
        plotly=get_plotlyjs(),
        figures=data,
    )


def _table(sweep: Sweep) -> str:
    rows = [cells(sweep, sweep.at(agents, policy)) for agents in sweep.agents for policy in sweep.policies]
    head = "".join(f"<th>{escape(name)}</th>" for name in columns(sweep))
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div><p>{escape(legend(sweep))}</p>'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c1f24; --dim: #5b6470; --ground: #ffffff; --panel: #f3f5f7; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6e8eb; --dim: #9aa4b0; --ground: #14171b; --panel: #1e2329; }}
}}
body {{ margin: 0 auto; max-width: 70rem; padding: 2rem 1.25rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.5rem; line-height: 1.3; margin: 0 0 .5rem; }}
h2 {{ font-size: 1.1rem; margin: 2.5rem 0 0; }}
p {{ color: var(--dim); margin: .25rem 0 .5rem; }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: 1rem; margin: 1.5rem 0; }}
.tiles div {{ background: var(--panel); border-radius: .5rem; padding: 1rem; }}
.tiles b {{ display: block; font-size: 2.2rem; line-height: 1.1; }}
.tiles span {{ color: var(--dim); font-size: .9rem; }}
.figure {{ height: 24rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .75rem .25rem 0; text-align: right; white-space: nowrap; }}
th {{ color: var(--dim); font-weight: normal; border-bottom: 1px solid var(--dim); }}
th:nth-child(2), td:nth-child(2) {{ text-align: left; }}
</style>
</head>
<body>
<h1>{sentence}</h1>
<p>{title}</p>
<div class="tiles">{tiles}</div>
{paper}
{plots}
<section><h2>All settings (simulated)</h2>{table}</section>
<script>{plotly}</script>
<script>
const figures = {figures};
const dark = matchMedia("(prefers-color-scheme: dark)");
function draw() {{
  const ink = dark.matches ? "#e6e8eb" : "#1c1f24", grid = dark.matches ? "#333a42" : "#dfe3e8";
  figures.forEach((figure, n) => {{
    const axis = {{ gridcolor: grid, zerolinecolor: grid, automargin: true }};
    const layout = {{
      ...figure.layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {{ color: ink }},
      margin: {{ t: 20, r: 20 }}, hovermode: "x unified", hoverlabel: {{ bgcolor: dark.matches ? "#1e2329" : "#fff" }},
      showlegend: true, xaxis: {{ ...axis, ...figure.layout.xaxis }}, yaxis: {{ ...axis, ...figure.layout.yaxis }},
    }};
    Plotly.react("figure-" + n, figure.data, layout, {{ responsive: true, displaylogo: false }});
  }});
}}
dark.addEventListener("change", draw);
draw();
</script>
</body>
</html>
"""
