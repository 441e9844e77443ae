"""A page with figures: one file, no network, light or dark as the reader's system is, and light on paper.

Figures are Plotly's own JSON (``data`` and ``layout``) or timelines; Plotly's script, ``page.css`` and ``page.js`` are
written into the page. Whatever comes from outside passes through ``escape``: Plotly reads tags in its texts as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from typing import Any

from plotly.offline import get_plotlyjs

COLOURS = ("#d1495b", "#2b7bba", "#3a9e5c", "#c08a2e", "#8a63b5", "#4bb3b3")
"""Of lines, in their order; told apart on white and on black."""


@dataclass(frozen=True, slots=True)
class State:
    """One of the states that a timeline's rows can be in."""

    name: str
    colour: str
    thickness: float
    """Share of a row's height. States that are drawn later lie above earlier ones."""
    spans: list[float]
    """Row, begin, end; row, begin, end; …"""


@dataclass(frozen=True, slots=True)
class Timeline:
    """What each of several programs did when. Its texts need no escaping: the page's script does that."""

    rows: list[str]
    states: list[State]
    window: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One plot and what it shows."""

    title: str
    note: str
    data: list[dict[str, Any]] = field(default_factory=list)
    layout: dict[str, Any] = field(default_factory=dict)
    timeline: Timeline | None = None
    """In place of ``data``."""

    def as_dict(self) -> dict[str, Any]:
        """As the page's script reads it."""
        if self.timeline is None:
            return {"data": self.data, "layout": self.layout}
        t = self.timeline
        states = [
            {"name": s.name, "colour": s.colour, "thickness": s.thickness, "spans": s.spans} for s in t.states
        ]  # fmt: skip
        return {"layout": self.layout, "timeline": {"rows": t.rows, "states": states, "window": t.window}}


def document(
    *, sentence: str, title: str, drawn: Sequence[Figure], big: str = "", before: str = "", after: str = ""
) -> str:
    """A whole page. ``sentence`` and ``big`` stand on top, ``before`` and ``after`` around the figures."""
    plots = "".join(map(_plot, range(len(drawn)), drawn))
    body = before + plots + after
    # A "<" inside a script element could end it.
    data = json.dumps([f.as_dict() for f in drawn], allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = resources.files("thunderctl.report")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{escape(sentence[:120])}</title>\n<style>\n{(parts / 'page.css').read_text('utf-8')}</style>\n"
        f'</head>\n<body>\n<a class="skip" href="#content">To the content</a>\n<header>\n<h1>{escape(sentence)}</h1>\n'
        f"<p>{escape(title)}</p>\n{big}\n</header>\n{_contents(body)}"
        f'<main id="content">\n{body}\n</main>\n'
        f'<script type="application/json" id="figures">{data}</script>\n'
        f"<script>{get_plotlyjs()}</script>\n<script>\n{(parts / 'page.js').read_text('utf-8')}</script>\n"
        "</body>\n</html>\n"
    )


_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; "
    "form-action 'none'; base-uri 'none'"
)


def _contents(body: str) -> str:
    """Links to the page's sections, if there are enough of them to get lost in."""
    found = re.findall(r'<section id="([a-z0-9-]+)"[^>]*><h2>(.*?)</h2>', body)
    if len(found) < 4:
        return ""
    return '<nav aria-label="Sections">' + "".join(f'<a href="#{i}">{title}</a>' for i, title in found) + "</nav>\n"


def _plot(n: int, figure: Figure) -> str:
    title, place = escape(figure.title), f"figure-{n}"
    if figure.timeline is None:
        return section(title_id(figure.title), title, f"<p>{escape(figure.note)}</p>{_place(place, title)}")
    moves = {"in": "Closer", "out": "Wider", "earlier": "Earlier", "later": "Later", "all": "All"}
    buttons = "".join(f'<button type="button" data-of="{place}" data-move="{m}">{t}</button>' for m, t in moves.items())
    controls = (
        f'<div class="controls"><label for="{place}-search">Search</label>'
        f'<input type="search" id="{place}-search" autocomplete="off">{buttons}'
        f'<output id="{place}-told"></output></div>'
    )
    inside = f"<p>{escape(figure.note)}</p>{controls}{_place(place, title, ' timeline')}"
    return section(title_id(figure.title), title, inside)


def _place(place: str, title: str, more: str = "") -> str:
    return f'<div id="{place}" class="figure{more}" role="group" aria-label="{title}"></div>'


def title_id(title: str) -> str:
    """A name for links, from a title that this package wrote."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def section(name: str, title: str, inside: str, kind: str = "") -> str:
    """``title`` and ``inside`` are HTML already."""
    return f'<section id="{name}"{kind and f" class={kind}"}><h2>{title}</h2>{inside}</section>\n'


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """Large figures in a row, each with what it is."""
    told = "".join(f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in figures)
    return f'<div class="tiles">{told}</div>'


def table(head: Iterable[str], rows: Iterable[Iterable[str]], name: str = "All settings", kind: str = "") -> str:
    """A table that scrolls where it is too wide; ``name`` says what it holds to those who do not see it."""
    names = "".join(f'<th scope="col">{escape(n)}</th>' for n in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(name)}">'
        f'<table id="table-{title_id(name)}" class="{kind}"><thead><tr>{names}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def searchable(head: Iterable[str], rows: Iterable[Iterable[str]], name: str) -> str:
    """A table with a field that leaves only the rows which hold its text."""
    own = f"table-{title_id(name)}"
    return (
        f'<div class="controls"><label for="{own}-search">Search</label>'
        f'<input type="search" id="{own}-search" data-table="{own}" autocomplete="off">'
        f'<output id="{own}-told"></output></div>{table(head, rows, name, "words")}'
    )


def told(rows: Iterable[Sequence[tuple[str, str]]], name: str = "") -> str:
    """Labels with their texts, in groups."""
    found = ""
    for group in rows:
        for n, (label, text) in enumerate(group):
            gap = ' class="gap"' if n == 0 and found else ""
            head = f'<th scope="row">{escape(label)}</th>' if label else "<td></td>"
            found += f"<tr{gap}>{head}<td>{escape(text)}</td></tr>"
    return f'<table{name and f" id={name}"} class="told"><tbody>{found}</tbody></table>'
