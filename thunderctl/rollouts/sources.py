"""Who works on a group's samples, and on what: agents of a workload's tasks, or of a trace's programs.

Task by task there is one group, in their order, and again from the first when there are more groups than tasks. Who
works on a sample is an agent of a run like any other; only its name and its group are the group's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from thunderctl.agents.desk import Desk
from thunderctl.agents.kinds import AGENTS
from thunderctl.agents.loop import TaskAgent
from thunderctl.agents.rollout import Rollout
from thunderctl.agents.trace import ProgramRollout, TraceAgent
from thunderctl.errors import UsageError
from thunderctl.runs.tasks import TaskPlan, keep_warm
from thunderctl.runs.trace import TracePlan
from thunderctl.traces.groups import grouped
from thunderctl.traces.trace import Assignment, TraceProgram

SampleAgent = TaskAgent[Any, Any] | TraceAgent
SampleRollout = Rollout | ProgramRollout


def group_name(number: int) -> str:
    """Unique within a roll-out, and sorted as groups are."""
    return f"g{number:05d}"


@dataclass(frozen=True, slots=True)
class Place:
    """Which sample somebody works on, and what everybody calls it."""

    number: int
    """Of its group, from 0."""
    index: int
    """Which sample of the group it is, from 0."""
    agent: str
    program: str
    group: str
    """The group's name to the daemon."""
    of_all: int
    """Which sample of the roll-out it is, from 0."""


class TaskSource:
    """A workload's tasks."""

    def __init__(self, plan: TaskPlan) -> None:
        self._plan = plan
        self.tasks = len(plan.tasks)

    def task_of(self, number: int) -> str:
        return self._plan.task_of(number).instance_id

    def steps_of(self, number: int, index: int) -> int | None:
        """Steps that there are to do; unknown for live agents."""
        plan = self._plan
        if plan.kind != "replay":
            return None
        return min(plan.workload.limits.steps, len(plan.task_of(number).trajectory or []))

    def agent(self, desk: Desk, place: Place) -> tuple[TaskAgent[Any, Any], Rollout]:
        plan, task = self._plan, self._plan.task_of(place.number)
        rollout = Rollout(
            place.agent, place.program, task.instance_id, plan.kind, index=place.of_all, group=place.group
        )
        return AGENTS[plan.workload.kind](desk, plan.workload, task, rollout), rollout

    async def begin(self, desk: Desk, numbers: Sequence[int]) -> None:
        await keep_warm(desk, self._plan.workload, [self._plan.task_of(number) for number in numbers])


class TraceSource:
    """A trace's programs: those that it calls one group, or samples made from each (``traces/groups.py``)."""

    def __init__(self, plan: TracePlan, samples: int, longest: int | None) -> None:
        trace = grouped(plan.trace, samples=samples, limit=longest, seed=plan.seed)
        found: dict[str, list[TraceProgram]] = {}
        for program in trace.programs:
            found.setdefault(program.group or program.id, []).append(program)
        self._groups = [(name, programs) for name, programs in found.items() if len(programs) == samples]
        if not self._groups:
            raise UsageError(
                f"trace {plan.trace.name}: no task has {samples} samples that fit into the model's context"
            )
        random.Random(f"{plan.seed}/{trace.digest}").shuffle(self._groups)  # noqa: S311 - a workload, no secret
        self.tasks = len(self._groups)

    def _group(self, number: int) -> tuple[str, list[TraceProgram]]:
        return self._groups[number % self.tasks]

    def task_of(self, number: int) -> str:
        return self._group(number)[0]

    def steps_of(self, number: int, index: int) -> int | None:
        return len(self._group(number)[1][index].steps)

    def agent(self, desk: Desk, place: Place) -> tuple[TraceAgent, ProgramRollout]:
        task, programs = self._group(place.number)
        program = replace(programs[place.index], group=place.group)
        rollout = ProgramRollout(place.agent, place.program, task, 0, index=place.of_all, group=place.group)
        return TraceAgent(desk, Assignment(place.agent, program, 0), rollout), rollout

    async def begin(self, desk: Desk, numbers: Sequence[int]) -> None:
        """Nobody needs anything."""
