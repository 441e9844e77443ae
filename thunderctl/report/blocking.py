"""Blocking of groups: how long samples that are done wait for the last of their group (``rollouts/schema.py``).

A measurement ends while groups are still at work. A group all of whose samples ended is *complete*, and its blocking is
known. One of which some ended has been *waited for* until the end, at least: leaving it out would praise whoever never
finishes the long ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from thunderctl.rollouts.schema import Group, Sample


@dataclass(frozen=True, slots=True)
class Blocking:
    """Seconds; 0 where there is no such group."""

    complete: int
    """Groups all of whose samples ended."""
    mean_s: float
    """Of the complete ones."""
    worst_s: float
    open: int
    """Groups of which some samples ended, and not all."""
    so_far_mean_s: float
    """Of both: what is not complete counts as if it ended with the measurement."""
    so_far_worst_s: float
    samples: int
    """That ended."""


def blocking(rollouts: Iterable[dict[str, Any]], until: float) -> Blocking:
    """Of a run's rollouts that say their ``group``; ``until``: when the measurement ended, in its seconds."""
    groups: dict[str, Group] = {}
    working: set[str] = set()
    samples = 0
    for record in rollouts:
        name = record.get("group")
        if name is None:
            continue
        done = record["status"] != "cut off"
        if not done:
            working.add(name)
        samples += done
        group = groups.setdefault(name, Group(name, task=record["instance_id"]))
        group.samples.append(
            Sample(
                task=record["instance_id"], group=name, index=len(group.samples), attempt=1,
                program=record["program"], kind=record["kind"], status=record["status"],
                ended=record["ended"] if done else until,
            )
        )  # fmt: skip
    complete = [group.blocking_s for name, group in groups.items() if name not in working]
    waited_for = [
        groups[name].blocking_s for name in working if any(s.status != "cut off" for s in groups[name].samples)
    ]
    both = complete + waited_for
    return Blocking(
        complete=len(complete),
        mean_s=_mean(complete),
        worst_s=max(complete, default=0.0),
        open=len(waited_for),
        so_far_mean_s=_mean(both),
        so_far_worst_s=max(both, default=0.0),
        samples=samples,
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
