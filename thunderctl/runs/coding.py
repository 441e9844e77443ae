"""Runs of coding agents: one agent a place, each on one task; afterwards their patches are judged."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any

from thunderctl.agents.coding import CodingAgent, Rollout
from thunderctl.errors import WorkloadError
from thunderctl.runs.driver import Desk
from thunderctl.workload import CodingTask, Workload

JUDGES = max(2, os.cpu_count() or 2)
"""Patches judged at once, after the measured part."""


@dataclass(frozen=True, slots=True)
class CodingPlan:
    """Agents that repair the tasks of a workload."""

    workload: Workload
    tasks: list[CodingTask]
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
        known = [min(longest, len(self.task_of(i).answers or [])) for i in range(self.agents)]
        return sum(known) if self.kind == "replay" else None

    @property
    def duration_s(self) -> float | None:
        return None

    @property
    def due(self) -> int:
        return self.agents

    def task_of(self, index: int) -> CodingTask:
        """Agents take the tasks in turn, so every arm of a comparison does the same work."""
        return self.tasks[index % len(self.tasks)]

    def about(self) -> dict[str, Any]:
        return {
            "workload": self.workload.name,
            "dataset": self.dataset,
            "tasks": sorted({t.instance_id for t in self.tasks}),
            "tasks_are": "official rows given by the user" if self.dataset else "bundled with thunderctl",
            "max_steps": self.workload.limits.steps,
        }

    def crew(self, desk: Desk) -> CodingCrew:
        return CodingCrew(self, desk)


class CodingCrew:
    """One coding agent for each place."""

    def __init__(self, plan: CodingPlan, desk: Desk) -> None:
        self._plan = plan
        self._desk = desk
        self._agents: dict[int, tuple[CodingAgent, Rollout]] = {}

    async def begin(self) -> None:
        """Have environments ready of each image, if the workload wants that."""
        spec = self._plan.workload.environment
        images = {self._plan.task_of(place).image or spec.image for place in range(self._plan.agents)}
        for image in sorted(images, key=str) if spec.warm else ():
            await self._desk.client.keep_warm(self._desk.store.id, spec.warm, image=image, env=spec.env)

    def next_agent(self, place: int) -> tuple[CodingAgent, Rollout] | None:
        if place in self._agents:
            return None
        plan, desk = self._plan, self._desk
        name, task = f"agent-{place:03d}", plan.task_of(place)
        rollout = Rollout(name, f"{desk.store.id}/{name}", task.instance_id, plan.kind)
        agent = CodingAgent(desk.client, plan.workload, task, rollout, desk.store.id, desk.clock, desk.noted)
        self._agents[place] = (agent, rollout)
        return agent, rollout

    async def judge(self) -> None:
        """Run the tasks' tests on the patches, a few at once."""
        if not self._plan.judge:
            return
        judges = asyncio.Semaphore(JUDGES)

        async def one(agent: CodingAgent, rollout: Rollout) -> None:
            async with judges:
                await agent.judge()
            self._desk.progress.judged += 1
            self._desk.store.append("rollouts", rollout.as_dict())

        await asyncio.gather(*(one(agent, rollout) for agent, rollout in self._agents.values()))

    def close(self) -> None:
        """SWE-bench's form, one prediction an instance: the first agent that submitted speaks for it."""
        found: dict[str, dict[str, str]] = {}
        for _place, (_agent, rollout) in sorted(self._agents.items()):
            if rollout.status == "submitted":
                found.setdefault(
                    rollout.instance_id,
                    {
                        "model_name_or_path": f"thunderctl-{rollout.kind}",
                        "instance_id": rollout.instance_id,
                        "model_patch": rollout.patch,
                    },
                )
        self._desk.store.write("preds.json", found)


def choose_tasks(tasks: list[CodingTask], kind: str, only: list[str] | None) -> list[CodingTask]:
    """The tasks to use: those named by ``only``, and for replay those with a recorded trajectory."""
    if only:
        known = {t.instance_id: t for t in tasks}
        missing = [name for name in only if name not in known]
        if missing:
            raise WorkloadError(f"there is no task {missing[0]!r}", hint=f"tasks: {', '.join(sorted(known))}")
        tasks = [known[name] for name in only]
    if kind == "replay":
        tasks = [t for t in tasks if t.answers]
        if not tasks:
            raise WorkloadError("none of these tasks has a recorded trajectory", hint="run them with --live")
    return tasks
