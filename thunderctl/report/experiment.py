"""The policies' experiment in figures: loads × policies, means with intervals over seeds, shares of a ceiling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

SCHEMA = 1
CEILING = "oracle"
"""The policy that knows what no scheduler can know. With several settings of it the best one under a load counts."""
PUBLISHED = "paper"
"""ThunderAgent, with decay and without. With several settings of it the best one under a load counts."""
T_95 = (math.inf, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""Student's t for 95%, two-sided, by degrees of freedom; beyond the table 2 is near enough."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One simulation."""

    load: str
    policy: str
    seed: int
    agents: int
    steps_per_min: float
    hit_rate: float
    """Σ cached ÷ Σ prompt tokens over all calls."""
    pauses: int
    cpu_s: float
    """Processor time of the simulation itself."""
    size_and_wait: float | None = None
    """Where all programs begin together: correlation of their first prompts with their times to the first answer."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One policy under one load, over all seeds."""

    load: str
    policy: str
    agents: int
    steps_per_min: float
    plus_minus: float
    """Half the width of the 95% interval of the mean; infinite for a single seed."""
    hit_rate: float
    pauses: float
    of_ceiling: float | None
    """Steps/min to the ceiling's; None where there is none."""
    of_paper: float | None
    """The same to the better of the published ones."""
    of_baseline: float | None
    size_and_wait: float | None


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95% interval by Student's t."""
    mean = sum(values) / len(values)
    free = len(values) - 1
    if not free:
        return mean, math.inf
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / free)
    return mean, (T_95[free] if free < len(T_95) else 2.0) * deviation / math.sqrt(len(values))


def cells(outcomes: Sequence[Outcome]) -> list[Cell]:
    """A cell for each load and policy, in the order in which they were simulated."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault((outcome.load, outcome.policy), []).append(outcome)
    means = {key: interval([o.steps_per_min for o in same]) for key, same in found.items()}
    made = []
    for (load, policy), same in found.items():
        mean, half = means[load, policy]
        mine = {name: value for (where, name), (value, _) in means.items() if where == load}
        top = _best(mine, CEILING)
        published = _best(mine, PUBLISHED)
        correlations = [o.size_and_wait for o in same if o.size_and_wait is not None]
        made.append(
            Cell(
                load=load,
                policy=policy,
                agents=same[0].agents,
                steps_per_min=mean,
                plus_minus=half,
                hit_rate=sum(o.hit_rate for o in same) / len(same),
                pauses=sum(o.pauses for o in same) / len(same),
                of_ceiling=mean / top if top else None,
                of_paper=mean / published if published else None,
                of_baseline=mean / mine["baseline"] if mine.get("baseline") else None,
                size_and_wait=sum(correlations) / len(correlations) if correlations else None,
            )
        )
    return made


def _best(means: dict[str, float], policy: str) -> float:
    """The best setting's steps/min; 0 if there is none."""
    return max((value for name, value in means.items() if name.split(":")[0] == policy), default=0.0)


def table(made: Sequence[Cell], title: str) -> RenderableType:
    """A row for each load and policy; the best policy of a load, the ceiling aside, in bold."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    shown.add_column("load", no_wrap=True)
    shown.add_column("policy", overflow="fold")
    for name in ("agents", "steps/min", "hit rate", "pauses", "/baseline", "/paper", "/oracle", "size~wait"):
        shown.add_column(name, justify="right", no_wrap=True)
    for load in dict.fromkeys(c.load for c in made):
        rows = [c for c in made if c.load == load]
        best = max((c.steps_per_min for c in rows if not c.policy.startswith(CEILING)), default=0.0)
        for number, cell in enumerate(rows):
            shown.add_row(
                load if number == 0 else "",
                cell.policy,
                str(cell.agents),
                f"{cell.steps_per_min:.0f}" + (f" ±{cell.plus_minus:.0f}" if math.isfinite(cell.plus_minus) else ""),
                f"{cell.hit_rate:.2f}",
                f"{cell.pauses:.0f}",
                *(
                    "–" if value is None else f"{value:.2f}"
                    for value in (cell.of_baseline, cell.of_paper, cell.of_ceiling, cell.size_and_wait)
                ),
                style="bold" if cell.steps_per_min == best and not cell.policy.startswith(CEILING) else "",
            )
        shown.add_row()
    note = (
        "±: half the 95% interval of the mean over seeds. /paper: the best of its settings. The oracle is thunder,"
        " told each tool's time and growth; the best of its settings counts. size~wait: correlation of first prompts"
        " with times to the first answer where all begin together."
    )
    return Group(Text(title, style="bold"), shown, Text(note, style="dim"))


def as_dict(outcomes: Sequence[Outcome], made: Sequence[Cell], about: dict[str, Any]) -> dict[str, Any]:
    """What ``--json`` prints; a single seed has no interval."""
    rows = [{**asdict(c), "plus_minus": c.plus_minus if math.isfinite(c.plus_minus) else None} for c in made]
    return {"schema": SCHEMA, "simulated": True, **about, "cells": rows, "outcomes": [asdict(o) for o in outcomes]}
