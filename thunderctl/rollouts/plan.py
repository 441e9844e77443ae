"""What a roll-out is to do, as a plan of a run: groups of samples, by which rules, and where they go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from thunderctl.agents.desk import Desk
from thunderctl.errors import UsageError
from thunderctl.rollouts.crew import GroupCrew
from thunderctl.rollouts.groups import Rules
from thunderctl.rollouts.shelf import Shelf
from thunderctl.rollouts.sources import TaskSource, TraceSource
from thunderctl.runs.driver import Progress
from thunderctl.runs.resume import AT_FIRST, Earlier
from thunderctl.runs.shape import Shape
from thunderctl.runs.store import RunFolder
from thunderctl.runs.tasks import TaskPlan
from thunderctl.runs.trace import TracePlan
from thunderctl.workload.base import WorkloadEnvironment

MOST_GROUPS = 100_000


@dataclass(frozen=True)
class GroupPlan:
    """Groups on the tasks of ``work``. ``UsageError`` if that makes no sense."""

    work: TaskPlan | TracePlan
    """The plan of single agents that samples are made of; its numbers of tasks and rollouts mean nothing here."""
    rules: Rules
    groups: int | None = None
    """How many in all; ``None``: one for each task."""
    longest: int | None = None
    """Tokens of the model's context: a trace's samples end there."""
    out: Path | None = None
    """Where complete groups are written."""
    sampling: Mapping[str, float] = field(default_factory=dict)
    """Temperature and the like, of live answers."""
    shelf: Shelf | None = None
    """Where complete groups are taken from by a trainer in this process."""

    def __post_init__(self) -> None:
        if self.groups is not None and not 1 <= self.groups <= MOST_GROUPS:
            raise UsageError(f"a roll-out has 1 to {MOST_GROUPS:,} groups (--tasks), not {self.groups}")
        if self.sampling and self.kind != "live":
            raise UsageError(f"{', '.join(self.sampling)} is about live answers, and these are those of a {self.kind}")
        assert self.source  # noqa: S101 - a trace that gives no group is told now

    @cached_property
    def source(self) -> TaskSource | TraceSource:
        if isinstance(self.work, TaskPlan):
            return TaskSource(self.work)
        return TraceSource(self.work, self.rules.samples, self.longest)

    @cached_property
    def total(self) -> int:
        """Groups in all."""
        return self.groups or self.source.tasks

    @property
    def name(self) -> str:
        return f"rollout-{self.work.name}"

    @property
    def agents(self) -> int:
        """Places; more than there are samples would stay empty."""
        return min(self.work.agents, self.due)

    @property
    def kind(self) -> str:
        return self.work.kind

    @property
    def environment(self) -> WorkloadEnvironment | None:
        return self.work.environment

    @property
    def total_steps(self) -> int | None:
        """Unknown for live agents, and where samples are cut off when a group is."""
        if self.rules.keep is not None or self.rules.timeout_s is not None:
            return None
        per_group = [
            self.source.steps_of(number, index) for number in range(self.total) for index in range(self.rules.samples)
        ]
        return None if None in per_group else sum(steps for steps in per_group if steps is not None)

    @property
    def duration_s(self) -> float | None:
        return None

    @property
    def due(self) -> int:
        return self.total * self.rules.samples

    @property
    def shape(self) -> Shape:
        return self.work.shape

    @property
    def max_error_share(self) -> float:
        return self.work.max_error_share

    @property
    def look_ahead(self) -> int:
        """Environments prepared for samples that have no place yet, at most."""
        return self.work.look_ahead if isinstance(self.work, TaskPlan) else 0

    @property
    def judged(self) -> bool:
        """Whether what is handed in gets a reward."""
        return isinstance(self.work, TaskPlan) and self.work.judge

    def about(self) -> dict[str, Any]:
        rules = self.rules
        return {
            **self.work.about(),
            "rollout": {
                "groups": self.total,
                "samples_per_task": rules.samples,
                "keep": rules.keep,
                "group_timeout_s": rules.timeout_s,
                "retries": rules.retries,
                "sampling": dict(self.sampling),
            },
        }

    def crew(self, desk: Desk, store: RunFolder, progress: Progress, earlier: Earlier = AT_FIRST) -> GroupCrew:
        return GroupCrew(self, desk, store, progress, earlier)
