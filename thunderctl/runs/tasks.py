"""Runs of agents on a workload's tasks, each agent on one; afterwards their work is judged.

An agent is one rollout: a place that is free takes the next one. Those that come next have their environments prepared
before there is a place for them, a bounded number at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thunderctl.agents.desk import Desk
from thunderctl.agents.kinds import AGENTS
from thunderctl.agents.loop import TaskAgent
from thunderctl.agents.rollout import Rollout
from thunderctl.errors import WorkloadError
from thunderctl.runs.driver import Progress
from thunderctl.runs.resume import AT_FIRST, Earlier
from thunderctl.runs.shape import Shape
from thunderctl.runs.store import RunFolder
from thunderctl.workload.base import Task, Workload, WorkloadEnvironment
from thunderctl.workload.load import kind_of

Worker = TaskAgent[Any, Any]
JUDGES = max(2, os.cpu_count() or 2)
"""Submissions judged at once, after the measured part."""


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """Agents that do the tasks of a workload."""

    workload: Workload
    tasks: Sequence[Task]
    agents: int
    kind: str
    """``replay`` or ``live``."""
    judge: bool
    max_error_share: float
    dataset: str | None = None
    rollouts: int | None = None
    """How many in all; with neither this nor a duration, one for each place."""
    duration_s: float | None = None
    """Agents take tasks until so many seconds have passed."""
    shape: Shape = Shape()
    look_ahead: int = 0
    """Environments prepared for agents that have no place yet, at most."""
    selection: Mapping[str, Any] = field(default_factory=dict)
    """How ``tasks`` were chosen, for the manifest."""
    refused: Sequence[Mapping[str, Any]] = ()
    """Rows of the data set that could not be used."""

    @property
    def name(self) -> str:
        return self.workload.name

    @property
    def environment(self) -> WorkloadEnvironment | None:
        return self.workload.environment

    @property
    def total_steps(self) -> int | None:
        """Steps that the recorded trajectories hold; unknown for live agents."""
        if self.kind != "replay" or self.duration_s is not None:
            return None
        longest = self.workload.limits.steps
        return sum(min(longest, len(self.task_of(i).trajectory or [])) for i in range(self.due))

    @property
    def due(self) -> int:
        return self.rollouts or self.agents

    def task_of(self, index: int) -> Task:
        """Agents take the tasks in turn, so every arm of a comparison does the same work."""
        return self.tasks[index % len(self.tasks)]

    def about(self) -> dict[str, Any]:
        kind = kind_of(self.workload)
        return {
            "workload": self.workload.name,
            "workload_kind": self.workload.kind,
            "judged": kind.judged,
            "dataset": self.dataset,
            "rows_refused": [dict(row) for row in self.refused],
            "tasks": sorted({t.instance_id for t in self.tasks}),
            "tasks_are": "official rows given by the user" if self.dataset else "bundled with thunderctl",
            "max_steps": self.workload.limits.steps,
            "judging": self.judge,
            "duration_s": self.duration_s,
            "selection": dict(self.selection),
            "work_digest": self.digest(),
            **self.workload.about(self.kind),
        }

    def digest(self) -> str:
        """Hash of what the agents are given: prompts, limits, tasks in their order, recorded answers."""
        found = hashlib.sha256(self.workload.model_dump_json().encode())
        for task in self.tasks:
            steps = [step.content for step in task.trajectory or []]
            found.update(json.dumps([task.instance_id, task.image, steps]).encode())
        return found.hexdigest()[:16]

    def crew(self, desk: Desk, store: RunFolder, progress: Progress, earlier: Earlier = AT_FIRST) -> TaskCrew:
        return TaskCrew(self, desk, store, progress, earlier)


class TaskCrew:
    """One agent for each rollout that is due."""

    def __init__(
        self, plan: TaskPlan, desk: Desk, store: RunFolder, progress: Progress, earlier: Earlier = AT_FIRST
    ) -> None:
        self._plan = plan
        self._desk = desk
        self._store = store
        self._progress = progress
        self._earlier = earlier
        every = itertools.count() if plan.duration_s is not None else iter(range(plan.due))
        self._left = (index for index in every if index not in earlier.done)
        self._coming: deque[tuple[Worker, Rollout]] = deque()
        """Who is next, with an environment that is being prepared."""
        self._taken = 0
        self._agents: dict[int, tuple[Worker, Rollout]] = {}
        for record in earlier.rollouts.values():
            rollout = Rollout.from_dict(record)
            self._agents[rollout.index] = (self._agent(rollout), rollout)
            progress.rollouts.append(rollout)

    async def begin(self) -> None:
        """Have environments ready of each image, if the workload wants that."""
        due = range(len(self._plan.tasks) if self._plan.duration_s is not None else self._plan.due)
        await keep_warm(self._desk, self._plan.workload, [self._plan.task_of(index) for index in due])

    async def next_agent(self, place: int) -> tuple[Worker, Rollout] | None:
        found = self._coming.popleft() if self._coming else self._make_next()
        if found is not None:
            self._agents[found[1].index] = found
            self._taken += 1
            self._prepare_those_that_come()
        return found

    def _make_next(self) -> tuple[Worker, Rollout] | None:
        index = next(self._left, None)
        if index is None:
            return None
        name = f"agent-{index:03d}"
        program = self._earlier.program(f"{self._desk.run}/{name}")
        rollout = Rollout(name, program, self._plan.task_of(index).instance_id, self._plan.kind, index=index)
        return self._agent(rollout), rollout

    def _agent(self, rollout: Rollout) -> Worker:
        plan = self._plan
        return AGENTS[plan.workload.kind](self._desk, plan.workload, plan.task_of(rollout.index), rollout)

    def _prepare_those_that_come(self) -> None:
        """Once every place is taken: until then whoever is next begins at once, and announces its own."""
        shape = self._plan.shape
        at_once = shape.ramp_s == 0 and shape.arrivals_per_min is None
        if at_once and self._taken < self._plan.agents:
            return
        while len(self._coming) < self._plan.look_ahead and (found := self._make_next()) is not None:
            found[0].prepare()
            self._coming.append(found)

    async def dismiss(self) -> None:
        await asyncio.gather(*(agent.dismiss() for agent, _ in self._coming))
        self._coming.clear()

    async def judge(self) -> None:
        """Judge what was handed in, a few at once."""
        if not self._plan.judge:
            return
        judges = asyncio.Semaphore(JUDGES)

        async def one(agent: Worker, rollout: Rollout) -> None:
            async with judges:
                if self._desk.over():
                    return
                await agent.judge()
            self._progress.judged += 1
            self._store.append("rollouts", rollout.as_dict())

        # What an earlier sitting judged stays as it was judged.
        await asyncio.gather(*(one(agent, r) for agent, r in self._agents.values() if r.resolved is None))

    def close(self) -> None:
        """Patches in SWE-bench's form, one prediction an instance: the first agent that submitted speaks for it."""
        if not kind_of(self._plan.workload).patches:
            return
        found: dict[str, dict[str, str]] = {}
        for _index, (_agent, rollout) in sorted(self._agents.items()):
            if rollout.status == "submitted":
                found.setdefault(
                    rollout.instance_id,
                    {
                        "model_name_or_path": f"thunderctl-{rollout.kind}",
                        "instance_id": rollout.instance_id,
                        "model_patch": rollout.submission,
                    },
                )
        self._store.write("preds.json", found)


async def keep_warm(desk: Desk, workload: Workload, tasks: Iterable[Task]) -> None:
    """Have environments ready of each image that these tasks use, if the workload wants that."""
    spec = workload.environment
    images = {task.image or spec.image for task in tasks}
    for image in sorted(images, key=str) if spec.warm else ():
        await desk.client.keep_warm(desk.run, spec.warm, image=image, env=spec.env)


def choose_tasks(tasks: Sequence[Task], kind: str, only: list[str] | None) -> Sequence[Task]:
    """The tasks to use: those named by ``only``, and for replay those with a recorded trajectory."""
    if only:
        known = {t.instance_id: t for t in tasks}
        missing = [name for name in only if name not in known]
        if missing:
            raise WorkloadError(f"there is no task {missing[0]!r}", hint=f"tasks: {', '.join(sorted(known))}")
        tasks = [known[name] for name in only]
    if kind == "replay":
        tasks = [t for t in tasks if t.trajectory]
        if not tasks:
            raise WorkloadError("none of these tasks has a recorded trajectory", hint="run them with --live")
    return tasks
