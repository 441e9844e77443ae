"""Policies under roll-outs of groups, in figures: a table, a page with plots, and what they say. Nothing is run here.

Two measurements, because no single one can tell both. Within a *stretch* of minutes, begun in the midst of everybody's
work, nobody can have waited longer than it lasts, so it tells throughput and imbalance. A *batch*, from its first step
until the last of its samples has ended, tells how long groups were blocked and how long a trainer waits for all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from thunderctl.report.blocking import Blocking
from thunderctl.report.experiment import interval
from thunderctl.report.page import COLOURS, Figure, document, section
from thunderctl.report.page import table as html_table
from thunderctl.report.plots import memory_lines

SCHEMA = 1
PAPER = {"light": 1.79, "heavy": 3.92}
"""Roll-out throughput of ThunderAgent over its baseline on two nodes (arXiv 2602.13692), by load."""
POINTS = 300
"""Of a line over time."""

Lines = dict[str, list[tuple[float, float]]]
"""Of each worker: seconds, and the share of its KV capacity that programs placed there take."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One measurement of one arm. Times in seconds (emulated ones where time is)."""

    load: str
    arm: str
    """The policy with its options."""
    measured: str
    """``stretch`` or ``batch``."""
    seed: int
    seconds: float
    steps: int
    hit_rate: float
    output_tokens_per_s: float
    imbalance: float
    """Fullest worker less emptiest, as shares of their capacity: mean over time."""
    imbalance_max: float
    pauses: int
    held_max_s: float
    """The longest that a call was held."""
    failed: int
    blocking: Blocking
    memory: Lines
    host_lag: float | None = None
    """Of an emulated engine (``report/stats.py``)."""
    run: str | None = None
    """The stored run's name."""

    @property
    def steps_per_min(self) -> float:
        return 60 * self.steps / self.seconds if self.seconds else 0.0

    @property
    def samples_per_h(self) -> float:
        return 3600 * self.blocking.samples / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "steps_per_min": self.steps_per_min, "samples_per_h": self.samples_per_h}


@dataclass(frozen=True, slots=True)
class Row:
    """One arm under one load in one kind of measurement, over its seeds."""

    load: str
    arm: str
    measured: str
    steps_per_min: float
    plus_minus: float
    """Half the 95% interval over seeds; infinite for one."""
    ratio: float | None
    """Steps/min to the first arm's; ``None`` where that was not measured."""
    paper: float | None
    samples_per_h: float
    hit_rate: float
    imbalance: float
    imbalance_max: float
    complete: float
    """Groups."""
    open: float
    blocking_mean_s: float
    blocking_worst_s: float
    """In a stretch, what is not complete counts up to its end; the mean over seeds, as everything."""
    of_smallest_first: tuple[float, float] | None
    """Mean and worst blocking to that of ``paper``."""
    seconds: float
    held_max_s: float
    failed: float


@dataclass(frozen=True, slots=True)
class Measured:
    """All outcomes of one command."""

    emulated: bool
    profile: str
    trace: str
    digest: str
    agents: int
    samples: int
    workers: int
    outcomes: tuple[Outcome, ...]

    @property
    def kind(self) -> str:
        return "emulated" if self.emulated else "simulated"

    @property
    def title(self) -> str:
        return (
            f"{self.kind.capitalize()} · {self.profile} · trace {self.trace} in groups of {self.samples} · "
            f"{self.agents} agents on {self.workers} workers"
        )

    def of(self, load: str, measured: str) -> list[Outcome]:
        return [o for o in self.outcomes if (o.load, o.measured) == (load, measured)]

    @property
    def loads(self) -> list[str]:
        return list(dict.fromkeys(o.load for o in self.outcomes))

    def rows(self) -> list[Row]:
        """In the order in which they were measured."""
        keys = dict.fromkeys((o.measured, o.load, o.arm) for o in self.outcomes)
        return [self._row(measured, load, arm) for measured, load, arm in keys]

    def _row(self, measured: str, load: str, arm: str) -> Row:
        among = self.of(load, measured)
        same = [o for o in among if o.arm == arm]
        first = [o for o in among if o.arm == among[0].arm]
        steps, half = interval([o.steps_per_min for o in same])
        base = _mean(o.steps_per_min for o in first)
        return Row(
            load=load,
            arm=arm,
            measured=measured,
            steps_per_min=steps,
            plus_minus=half,
            ratio=steps / base if base else None,
            paper=None if measured == "batch" or arm.startswith("baseline") else PAPER.get(load),
            samples_per_h=_mean(o.samples_per_h for o in same),
            hit_rate=_mean(o.hit_rate for o in same),
            imbalance=_mean(o.imbalance for o in same),
            imbalance_max=max(o.imbalance_max for o in same),
            complete=_mean(o.blocking.complete for o in same),
            open=_mean(o.blocking.open for o in same),
            blocking_mean_s=_mean(o.blocking.so_far_mean_s for o in same),
            blocking_worst_s=_mean(o.blocking.so_far_worst_s for o in same),
            of_smallest_first=_to_smallest_first(same, [o for o in among if o.arm == "paper"]),
            seconds=_mean(o.seconds for o in same),
            held_max_s=max(o.held_max_s for o in same),
            failed=_mean(o.failed for o in same),
        )

    def as_dict(self) -> dict[str, Any]:
        """What ``rollouts.json`` holds; a single seed has no interval."""
        rows = [asdict(row) for row in self.rows()]
        for row in rows:
            row["plus_minus"] = row["plus_minus"] if math.isfinite(row["plus_minus"]) else None
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "profile": self.profile,
            "trace": self.trace,
            "digest": self.digest,
            "agents": self.agents,
            "samples_per_task": self.samples,
            "workers": self.workers,
            "paper": PAPER,
            "notes": self.notes(),
            "rows": rows,
            "outcomes": [o.as_dict() for o in self.outcomes],
        }

    def notes(self) -> list[str]:
        """What a reader has to know before believing the table."""
        said = [
            "÷ first: steps/min to the first arm's. paper: what ThunderAgent reports of roll-outs on two nodes (light, "
            "heavy), on real GPUs with other agents, so only the size compares. imbalance: fullest worker less "
            "emptiest, as shares of their capacity; mean over time ≤ maximum.",
            "groups: complete + begun to end. blocking: how long samples that had ended waited for the last of their "
            "group, mean over its samples; then mean and worst over groups. ÷ paper's: both, to the rule that restores "
            "the smallest first. held: the longest that a call was held.",
            "Samples of a task are made from its recorded program; heavy is the same work with contexts three times as "
            "long, cut off where the model's context ends.",
        ]
        if any(o.measured == "stretch" for o in self.outcomes):
            said.append(
                "stretch: from the midst of everybody's work. A rule that puts large contexts off looks better in it "
                "than it is, and blocking cannot be longer than it lasts: groups not complete by the end count up to "
                "it. Baseline ends so few samples that its blocking there says little."
            )
        lags = [o.host_lag for o in self.outcomes if o.host_lag is not None]
        if lags:
            said.append(f"emulated engines lagged by {100 * max(lags):.1f}% at most; above 5% this machine shows")
        failed = max((o.failed for o in self.outcomes), default=0)
        if failed:
            said.append(f"up to {failed} samples of an arm failed")
        return said


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def _to_smallest_first(mine: Sequence[Outcome], theirs: Sequence[Outcome]) -> tuple[float, float] | None:
    mean = _mean(o.blocking.so_far_mean_s for o in theirs)
    worst = _mean(o.blocking.so_far_worst_s for o in theirs)
    if not mean or not worst:
        return None
    return (
        _mean(o.blocking.so_far_mean_s for o in mine) / mean,
        _mean(o.blocking.so_far_worst_s for o in mine) / worst,
    )


# ------------------------------------------------------------------ as it is shown

THROUGHPUT = ("steps/min", "÷ first", "paper", "samples/h", "hits", "imbalance")
BLOCKING = ("groups", "blocking", "worst", "÷ paper's", "held", "lasted")
WHAT = {
    "stretch": "A stretch, from the midst of everybody's work",
    "batch": "A batch, from its start to its last sample",
}


def throughput(row: Row) -> list[str]:
    """Of :data:`THROUGHPUT`."""
    return [
        f"{row.steps_per_min:.0f}" + (f" ±{row.plus_minus:.0f}" if math.isfinite(row.plus_minus) else ""),
        f"{row.ratio:.2f}×" if row.ratio is not None else "–",
        f"{row.paper:.2f}×" if row.paper is not None else "",
        f"{row.samples_per_h:.0f}",
        f"{row.hit_rate:.2f}",
        f"{row.imbalance:.2f} ≤ {row.imbalance_max:.2f}",
    ]


def blocked(row: Row) -> list[str]:
    """Of :data:`BLOCKING`."""
    shares = row.of_smallest_first
    return [
        f"{row.complete:.0f}" + (f"+{row.open:.0f}" if row.open else ""),
        f"{row.blocking_mean_s:.0f} s",
        f"{row.blocking_worst_s:.0f} s",
        f"{shares[0]:.2f} {shares[1]:.2f}" if shares is not None else "–",
        f"{row.held_max_s:.0f} s",
        f"{row.seconds:.0f} s",
    ]


def table(found: Measured) -> RenderableType:
    """Throughput and blocking, for each kind of measurement: a row for each arm under each load."""
    parts: list[RenderableType] = [Text(found.title, style="bold")]
    for measured, rows in _by_kind(found).items():
        parts.append(Text(f"\n{WHAT[measured]}", style="bold"))
        parts += [_terminal(THROUGHPUT, rows, throughput), Text(), _terminal(BLOCKING, rows, blocked)]
    return Group(*parts, Text("\n" + "\n".join(found.notes()), style="dim"))


def _by_kind(found: Measured) -> dict[str, list[Row]]:
    kinds: dict[str, list[Row]] = {}
    for row in found.rows():
        kinds.setdefault(row.measured, []).append(row)
    return kinds


def _terminal(columns: Sequence[str], rows: Sequence[Row], cells: Callable[[Row], list[str]]) -> Table:
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    shown.add_column("load", no_wrap=True)
    shown.add_column("arm", overflow="fold")
    for name in columns:
        shown.add_column(name, justify="right", no_wrap=True)
    load = ""
    for row in rows:
        shown.add_row(row.load if row.load != load else "", row.arm, *cells(row))
        load = row.load
    return shown


def page(found: Measured) -> str:
    """``report.html``."""
    tables = "".join(
        f"<h3>{escape(WHAT[measured])}</h3>"
        + html_table(
            ["load", "arm", *THROUGHPUT, *BLOCKING],
            [[row.load, row.arm, *throughput(row), *blocked(row)] for row in rows],
            name=f"All arms, {measured}",
        )
        for measured, rows in _by_kind(found).items()
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in found.notes())
    return document(
        sentence=f"Roll-outs of groups under {len({o.arm for o in found.outcomes})} policies ({found.kind})",
        title=found.title,
        drawn=figures(found),
        before=section("settings", f"All arms ({found.kind})", tables + notes, "long"),
    )


def figures(found: Measured) -> list[Figure]:
    """Imbalance over time of all arms in one plot for each load, and then each arm's memory worker by worker."""
    drawn = []
    for load in found.loads:
        stretches = _first_seed(found.of(load, "stretch") or found.of(load, "batch"))
        drawn.append(_imbalance(found, load, stretches))
        drawn += [_memory(found, load, outcome) for outcome in stretches]
    return drawn


def _first_seed(outcomes: Sequence[Outcome]) -> list[Outcome]:
    kept: dict[str, Outcome] = {}
    for outcome in outcomes:
        kept.setdefault(outcome.arm, outcome)
    return list(kept.values())


def _imbalance(found: Measured, load: str, outcomes: Sequence[Outcome]) -> Figure:
    data = []
    for number, outcome in enumerate(outcomes):
        line = apart(outcome.memory)
        every = max(1, -(-len(line) // POINTS))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": escape(outcome.arm),
                "x": [round(at, 1) for at, _ in line[::every]],
                "y": [round(share, 4) for _, share in line[::every]],
                "line": {"color": COLOURS[number % len(COLOURS)], "width": 2},
            }
        )
    note = (
        "Fullest worker less emptiest: tokens of the programs placed there ÷ its KV capacity. Where programs take more "
        "than there is, contexts are computed again and again, however even the workers."
    )
    return Figure(f"Imbalance of the workers, {load} load ({found.kind})", note, data, _axes("share of capacity"))


def apart(memory: Lines) -> list[tuple[float, float]]:
    """Seconds, and by how much the fullest worker is fuller than the emptiest."""
    samples = zip(*memory.values(), strict=False)  # a worker may have been sampled once more than another
    return [(at[0][0], max(share for _, share in at) - min(share for _, share in at)) for at in samples]


def _memory(found: Measured, load: str, outcome: Outcome) -> Figure:
    return Figure(
        f"Memory of each worker under {outcome.arm}, {load} load ({found.kind})",
        "Tokens of the programs placed on a worker ÷ its KV capacity; above 1 they do not fit.",
        memory_lines(outcome.memory),
        _axes("share of KV capacity"),
    )


def _axes(vertical: str) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": "seconds"}},
        "yaxis": {"title": {"text": vertical}, "rangemode": "tozero"},
    }
