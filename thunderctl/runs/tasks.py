"""Runs of agents on a workload's tasks: one agent a place, each on one task; afterwards their work is judged."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thunderctl.agents.desk import Desk
from thunderctl.agents.kinds import AGENTS
from thunderctl.agents.loop import TaskAgent
from thunderctl.agents.rollout import Rollout
from thunderctl.errors import WorkloadError
from thunderctl.runs.driver import Progress
from thunderctl.runs.store import RunFolder
from thunderctl.workload.base import Task, Workload
from thunderctl.workload.load import kind_of

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

    @property
    def name(self) -> str:
        return self.workload.name

    @property
    def total_steps(self) -> int | None:
        """Steps that the recorded trajectories hold; unknown for live agents."""
        longest = self.workload.limits.steps
        known = [min(longest, len(self.task_of(i).trajectory or [])) for i in range(self.agents)]
        return sum(known) if self.kind == "replay" else None

    @property
    def duration_s(self) -> float | None:
        return None

    @property
    def due(self) -> int:
        return self.agents

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
            "tasks": sorted({t.instance_id for t in self.tasks}),
            "tasks_are": "official rows given by the user" if self.dataset else "bundled with thunderctl",
            "max_steps": self.workload.limits.steps,
        }

    def crew(self, desk: Desk, store: RunFolder, progress: Progress) -> TaskCrew:
        return TaskCrew(self, desk, store, progress)


class TaskCrew:
    """One agent for each place."""

    def __init__(self, plan: TaskPlan, desk: Desk, store: RunFolder, progress: Progress) -> None:
        self._plan = plan
        self._desk = desk
        self._store = store
        self._progress = progress
        self._agents: dict[int, tuple[TaskAgent[Any, Any], Rollout]] = {}

    async def begin(self) -> None:
        """Have environments ready of each image, if the workload wants that."""
        spec = self._plan.workload.environment
        images = {self._plan.task_of(place).image or spec.image for place in range(self._plan.agents)}
        for image in sorted(images, key=str) if spec.warm else ():
            await self._desk.client.keep_warm(self._desk.run, spec.warm, image=image, env=spec.env)

    def next_agent(self, place: int) -> tuple[TaskAgent[Any, Any], Rollout] | None:
        if place in self._agents:
            return None
        plan, desk = self._plan, self._desk
        name, task = f"agent-{place:03d}", plan.task_of(place)
        rollout = Rollout(name, f"{desk.run}/{name}", task.instance_id, plan.kind)
        agent = AGENTS[plan.workload.kind](desk, plan.workload, task, rollout)
        self._agents[place] = (agent, rollout)
        return agent, rollout

    async def judge(self) -> None:
        """Judge what was handed in, a few at once."""
        if not self._plan.judge:
            return
        judges = asyncio.Semaphore(JUDGES)

        async def one(agent: TaskAgent[Any, Any], rollout: Rollout) -> None:
            async with judges:
                await agent.judge()
            self._progress.judged += 1
            self._store.append("rollouts", rollout.as_dict())

        await asyncio.gather(*(one(agent, rollout) for agent, rollout in self._agents.values()))

    def close(self) -> None:
        """Patches in SWE-bench's form, one prediction an instance: the first agent that submitted speaks for it."""
        if not kind_of(self._plan.workload).patches:
            return
        found: dict[str, dict[str, str]] = {}
        for _place, (_agent, rollout) in sorted(self._agents.items()):
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
