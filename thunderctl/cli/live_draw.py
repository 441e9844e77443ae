"""A picture as it is drawn on a terminal of any size. Nothing here knows where a picture comes from.

A drawing is a list of lines, each no wider than the terminal, at most as many as it has: what does not fit is left out
in the order of its worth, and counted. Texts of models and tools are stripped of whatever a terminal would obey.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence

from rich.text import Text

from thunderctl.cli.live_picture import LATEST, AgentRow, Picture, WorkerRow
from thunderctl.report.tables import percent, size

LABEL = 12
"""Cells of the labels on the left."""
FULL, REST, EMPTY = "█", "▒", "░"
BAR = 60
"""Cells of a bar at most."""
CELL = 38
"""Cells of a worker where several share a line."""
_STATE_STYLE = {"failed": "red", "paused": "yellow", "running": "cyan", "reasoning": "cyan", "acting": "green"}


def clean(text: str) -> str:
    """``text`` in one line of characters that take the room they seem to: no escapes, no marks without a place."""
    return "".join(
        c if c.isprintable() and not unicodedata.combining(c) else " " if c in "\t\n\r" else "" for c in text
    )


def duration(seconds: float) -> str:
    """Whole seconds, minutes or hours; the width changes seldom."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if count) or "none"


def done(picture: Picture) -> str:
    """How far it is."""
    if picture.phase == "judging":
        return f"judging: {picture.judged:,} of {picture.agents or 0:,}"
    total = f" of {picture.total_steps:,}" if picture.total_steps else ""
    return f"{picture.steps:,}{total} {'steps' if picture.agents is not None else 'calls'}"


def when(picture: Picture) -> str:
    """How long it took, and how long it will take."""
    so_far = duration(picture.elapsed_s)
    if picture.left_s is None:
        return f"{so_far} so far" if picture.agents is not None else f"up for {so_far}"
    return f"{so_far} so far, about {duration(picture.left_s)} left"


def draw(picture: Picture, width: int, height: int) -> list[Text]:
    """The lines from top to bottom."""
    lines = [_title(picture), _bar(picture, width), *_figures(picture)]
    if picture.notice:
        lines.append(Text(clean(picture.notice), style="yellow"))
    room = height - len(lines)
    agents = min(len(picture.latest), LATEST)
    # What is left is shared: errors, a few workers, agents; then more workers.
    errors = _errors(picture, 3 if room > 12 else 1) if room > 3 else []
    room -= len(errors)
    block = _workers(picture.workers, max(min(4, room // 3), room - agents - 3), width)
    room -= len(block)
    lines += [*block, *errors]
    if room >= 3 and agents:
        lines += [Text(""), *_agents(picture.latest[: room - 2], width)]
    return [_fitted(line, width) for line in lines[:height]]


def _fitted(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line


def _title(picture: Picture) -> Text:
    title = Text("thunderctl", style="bold")
    for word in picture.about:
        title.append(" · ", style="dim").append(clean(word), style="bold" if word is picture.about[0] else "")
    if picture.phase not in ("working", "judging", "ok"):
        title.append(f" · {picture.phase}", style="yellow")
    return title


def _bar(picture: Picture, width: int) -> Text:
    told = f"{done(picture)} · {when(picture)}"
    if picture.share is None:
        return Text(told)
    told = f" {int(100 * picture.share):3d}%  {told}"
    room = max(0, min(BAR, width - len(told)))
    filled = int(room * picture.share)
    return Text.assemble((FULL * filled, "green"), (EMPTY * (room - filled), "dim"), told)


def _line(label: str, *parts: str | tuple[str, str]) -> Text:
    return Text.assemble((f"{label:<{LABEL}} ", "bold"), *parts)


def _figures(picture: Picture) -> list[Text]:
    rates = picture.rates
    speed = f"{rates.steps_per_min:,.1f} steps/min" if rates else "…"
    if rates and rates.output_tokens_per_s is not None:
        speed += f"   {rates.output_tokens_per_s:,.1f} tokens/s"
    hits = []
    if rates and rates.hit_rate is not None:
        hits.append(f"{percent(rates.hit_rate)} hit rate")
    if picture.hit_rate is not None:
        hits.append(f"{percent(picture.hit_rate)} in all")
    lines = [_line("speed", speed, *(["   ", ", ".join(hits)] if hits else []))]
    if picture.agents is not None:
        lines.append(_line("agents", f"{picture.agents:,} places: {counted(picture.rollouts)}"))
    lines.append(_line("programs", *_programs(picture)))
    if picture.backend or picture.disk_bytes is not None:
        disk = f" · disk {size(picture.disk_bytes)}" if picture.disk_bytes is not None else ""
        lines.append(_line("environments", f"{picture.backend or '…'}: {counted(picture.environments)}{disk}"))
    return lines


def _programs(picture: Picture) -> list[str | tuple[str, str]]:
    found = picture.programs
    if found is None:
        return ["…"]
    parts: list[str | tuple[str, str]] = [f"{found.reasoning:,} reasoning, {found.acting:,} acting"]
    queue = f"{found.paused:,} paused, {found.held_calls:,} calls waiting"
    return [*parts, " · ", (queue, "yellow") if found.paused or found.held_calls else queue]


def _workers(workers: Sequence[WorkerRow], rows: int, width: int) -> list[Text]:
    """One a line, or several where there are more than ``rows``; if that is not enough the fullest, and a number."""
    if len(workers) <= rows:
        return [
            _line(clean(worker.name)[:LABEL], *_reserved(worker, width - LABEL - 1, whole=True)) for worker in workers
        ]
    columns = max(1, (width + 2) // (CELL + 2))
    places = max(0, rows) * columns
    if len(workers) > places:
        places = max(0, rows - 1) * columns
    left_out = sorted(workers, key=_share, reverse=True)[places:]
    chosen = [w for w in workers if w not in left_out]
    lines = []
    for first in range(0, len(chosen), columns):
        line = Text()
        for worker in chosen[first : first + columns]:
            cell = _line(clean(worker.name)[:LABEL], *_reserved(worker, CELL - LABEL - 1, whole=False))
            cell.truncate(CELL, pad=True)
            line.append_text(cell).append("  ")
        lines.append(line)
    if left_out and rows > 0:
        others = "more" if chosen else "workers"
        lines.append(_line("", f"{len(left_out)} {others}, {percent(_share(left_out[0]))} of KV reserved at most"))
    return lines


def _share(worker: WorkerRow) -> float:
    return (worker.reasoning + worker.acting) / worker.capacity if worker.capacity else 0.0


def _reserved(worker: WorkerRow, width: int, *, whole: bool) -> list[tuple[str, str]]:
    """KV reserved by reasoning and by acting programs against capacity, as a bar and in figures."""
    if worker.state != "up" or not worker.capacity:
        return [(worker.state, "yellow")]
    reserved = worker.reasoning + worker.acting
    told = f" {percent(_share(worker)):>6}" + (f"  KV {reserved:,} of {worker.capacity:,} tokens" if whole else "")
    room = max(0, min(BAR, width - len(told)))
    reasoning = min(room, round(room * worker.reasoning / worker.capacity))
    acting = min(room - reasoning, round(room * worker.acting / worker.capacity))
    return [
        (FULL * reasoning, "cyan"),
        (REST * acting, "green"),
        (EMPTY * (room - reasoning - acting), "dim"),
        # Acting programs may be booked beyond capacity: they rest, and what rests may be evicted.
        (told, "red" if worker.reasoning > worker.capacity else "yellow" if reserved > worker.capacity else ""),
    ]


def _errors(picture: Picture, most: int) -> list[Text]:
    if not picture.error_count:
        return []
    if not picture.errors:
        return [_line("errors", (f"{picture.error_count:,} calls failed or were refused", "red"))]
    first = f"{picture.error_count:,}, the latest: " if picture.error_count > 1 else ""
    shown = [clean(text) for text in picture.errors[:most]]
    return [_line("errors", (first + shown[0], "red")), *(_line("", (text, "red")) for text in shown[1:])]


def _agents(rows: Sequence[AgentRow], width: int) -> list[Text]:
    """A table whose last column takes what is left; columns keep their widths while names do."""
    columns: list[tuple[str, Callable[[AgentRow], str], int, int]] = [
        ("agent", lambda r: r.agent, 10, 40 if width >= 120 else 24),
        ("task", lambda r: r.task, 8, 48 if width >= 120 else 22),
        ("state", lambda r: r.state, 10, 12),
    ]
    widths = [max(least, min(most, max(len(clean(of(r))) for r in rows))) for _, of, least, most in columns]
    heads = [f"{name:<{w}}" for (name, *_), w in zip(columns, widths, strict=True)]
    lines = [Text("  ".join([*heads, "steps", "latest"]), style="dim")]
    for row in rows:
        line = Text()
        for (name, of, *_), w in zip(columns, widths, strict=True):
            cell = Text(clean(of(row)), style=_STATE_STYLE.get(row.state, "") if name == "state" else "")
            cell.truncate(w, overflow="ellipsis", pad=True)
            line.append_text(cell).append("  ")
        lines.append(line.append(f"{row.steps:>5}  {clean(row.doing)}"))
    return lines
