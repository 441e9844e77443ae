"""A run as it happens: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import time

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from thunderctl.cli.show import err
from thunderctl.report.tables import seconds
from thunderctl.runs.driver import Progress

AGENTS_SHOWN = 10
PLAIN_EVERY_S = 10.0


def _eta(progress: Progress) -> str:
    elapsed = time.monotonic() - progress.began
    if progress.duration_s is not None:
        return f"{seconds(elapsed)} so far, {seconds(max(0.0, progress.duration_s - elapsed))} left"
    if not progress.total_steps or not progress.steps:
        return f"{seconds(elapsed)} so far"
    left = elapsed / progress.steps * (progress.total_steps - progress.steps)
    return f"{seconds(elapsed)} so far, about {seconds(max(0.0, left))} left"


def _line(progress: Progress) -> str:
    states = ", ".join(f"{count} {state}" for state, count in progress.counts().items())
    total = f"/{progress.total_steps}" if progress.total_steps else ""
    if progress.phase == "judging":
        return f"judging patches: {progress.judged}/{progress.agents}"
    return f"steps {progress.steps}{total} · agents: {states} · {_eta(progress)}"


def view(progress: Progress) -> RenderableType:
    """Overall bar, counts by state, and the agents that did something last."""
    done: float
    total: float | None
    if progress.phase == "judging":
        done, total = progress.judged, progress.agents
    elif progress.duration_s is not None:
        done, total = time.monotonic() - progress.began, progress.duration_s
    else:
        done, total = progress.steps, progress.total_steps
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("agent", "task", "state", "steps", "latest command"):
        table.add_column(column, no_wrap=True, max_width=60)
    latest = [name for name in reversed(progress.latest)][:AGENTS_SHOWN]
    by_name = {r.agent: r for r in progress.rollouts}
    for name in latest:
        r = by_name[name]
        table.add_row(name, r.instance_id, r.status, str(r.steps), escape(progress.latest[name]))
    return Group(Text(_line(progress)), ProgressBar(total=total or 100, completed=done, width=60), table)


async def watch(progress: Progress) -> None:
    """Draw until cancelled."""
    if not err.is_terminal:
        while True:
            await asyncio.sleep(PLAIN_EVERY_S)
            err.print(_line(progress), highlight=False, soft_wrap=True)
    with Live(view(progress), console=err, refresh_per_second=4, transient=True) as live:
        while True:
            await asyncio.sleep(0.25)
            live.update(view(progress))
