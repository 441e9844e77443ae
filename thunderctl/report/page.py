"""A page with figures: one file, no network, light or dark as the reader's system is.

Figures are Plotly's own JSON (``data`` and ``layout``); Plotly's script is written into the page. Whatever comes from
outside passes through ``escape``, for Plotly reads tags in its texts as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from plotly.offline import get_plotlyjs


@dataclass(frozen=True, slots=True)
class Figure:
    """One plot and what it shows."""

    title: str
    note: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]


def document(*, sentence: str, title: str, drawn: Sequence[Figure], before: str = "", after: str = "") -> str:
    """A whole page. ``sentence`` stands on top, ``before`` and ``after`` (HTML) around the figures."""
    plots = "".join(
        f"<section><h2>{escape(f.title)}</h2><p>{escape(f.note)}</p>"
        f'<div id="figure-{n}" class="figure"></div></section>'
        for n, f in enumerate(drawn)
    )
    # A "<" inside a script element could end it.
    data = json.dumps([{"data": f.data, "layout": f.layout} for f in drawn], allow_nan=False).replace("<", "\\u003c")
    return _PAGE.format(
        title=escape(title),
        sentence=escape(sentence),
        before=before,
        plots=plots,
        after=after,
        plotly=get_plotlyjs(),
        figures=data,
    )


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """Large figures in a row, each with what it is."""
    told = "".join(f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in figures)
    return f'<div class="tiles">{told}</div>'


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table that scrolls where it is too wide."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>'


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
{before}
{plots}
{after}
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
