"""Drives N agents over a workload's tasks through one daemon, and stores what happens as it happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from thunderctl import __version__
from thunderctl.agents.client import DaemonClient
from thunderctl.agents.coding import CodingAgent, Rollout
from thunderctl.errors import ThunderError, TooManyErrors, WorkloadError
from thunderctl.profile_files import ResolvedProfile
from thunderctl.runs.store import SCHEMA, RunFolder
from thunderctl.workload import CodingTask, Workload

COLLECT_S = 2.0
"""How often decisions, samples and disk use are fetched from the daemon."""
JUDGES = max(2, os.cpu_count() or 2)
"""Patches judged at once, after the measured part."""


@dataclass(slots=True)
class Progress:
    """What a live view shows. Owned by the driver, read by whoever draws."""

    agents: int
    total_steps: int | None
    """Steps that the recorded trajectories hold; unknown for live agents."""
    phase: str = "working"
    steps: int = 0
    judged: int = 0
    rollouts: list[Rollout] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    latest: dict[str, str] = field(default_factory=dict)
    """Last command of each agent."""

    def counts(self) -> dict[str, int]:
        """Agents by state."""
        found: dict[str, int] = {}
        for rollout in self.rollouts:
            found[rollout.status] = found.get(rollout.status, 0) + 1
        return found


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to do."""

    workload: Workload
    tasks: list[CodingTask]
    agents: int
    kind: str
    """``replay`` or ``live``."""
    judge: bool
    max_error_share: float
    dataset: str | None = None
    policy: str = ""

    def task_of(self, index: int) -> CodingTask:
        """Agents take the tasks in turn, so every arm of a comparison does the same work."""
        return self.tasks[index % len(self.tasks)]


def manifest(plan: Plan, resolved: ResolvedProfile, health: dict[str, Any], argv: list[str]) -> dict[str, Any]:
    """Everything that another person needs to judge or repeat the run."""
    return {
        "schema": SCHEMA,
        "created": time.time(),
        "thunderctl": __version__,
        "python": platform.python_version(),
        "host": {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()},
        "argv": argv,
        "workload": plan.workload.name,
        "dataset": plan.dataset,
        "tasks": sorted({t.instance_id for t in plan.tasks}),
        "tasks_are": "official rows given by the user" if plan.dataset else "bundled with thunderctl",
        "kind": plan.kind,
        "agents": plan.agents,
        "max_steps": plan.workload.limits.steps,
        "profile": resolved.profile.name,
        "profile_digest": resolved.profile.digest(),
        "policy": resolved.profile.scheduler.policy,
        "engine": resolved.profile.engine.kind,
        "workers": health["workers"],
        "environments": health["environments"],
    }


class Driver:
    """One run. ``await drive()`` returns when all agents ended; what was stored stays, however it ends."""

    def __init__(self, plan: Plan, client: DaemonClient, store: RunFolder) -> None:
        self._plan = plan
        self._client = client
        self._store = store
        longest = plan.workload.limits.steps
        known = [min(longest, len(plan.task_of(i).answers or [])) for i in range(plan.agents)]
        self.progress = Progress(plan.agents, sum(known) if plan.kind == "replay" else None)
        self._seen = {"decisions": 0, "samples": 0}

    def _clock(self) -> float:
        return time.monotonic() - self.progress.began

    async def drive(self, *, after_work: Callable[[], Awaitable[None]] | None = None) -> None:
        """Run all agents, then judge their patches. ``TooManyErrors`` once too many failed."""
        await self._skip_the_past()
        rollouts = [self._new_rollout(index) for index in range(self._plan.agents)]
        self.progress.rollouts = rollouts
        agents = [self._agent(index, rollout) for index, rollout in enumerate(rollouts)]
        collecting = asyncio.create_task(self._keep_collecting())
        try:
            await self._work(agents, rollouts)
            self.progress.phase = "judging"
            if after_work is not None:
                await after_work()
            if self._plan.judge:
                await self._judge(agents, rollouts)
        finally:
            self.progress.phase = "ended"
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
            with contextlib.suppress(ThunderError):
                await self._collect(now=True)
            self._write_predictions(rollouts)

    def _new_rollout(self, index: int) -> Rollout:
        agent = f"agent-{index:03d}"
        return Rollout(agent, f"{self._store.id}/{agent}", self._plan.task_of(index).instance_id, self._plan.kind)

    def _agent(self, index: int, rollout: Rollout) -> CodingAgent:
        return CodingAgent(
            self._client,
            self._plan.workload,
            self._plan.task_of(index),
            rollout,
            self._store.id,
            self._clock,
            self._noted,
        )

    def _noted(self, rollout: Rollout, step: dict[str, Any]) -> None:
        self.progress.steps += 1
        if step["command"]:
            self.progress.latest[rollout.agent] = step["command"].splitlines()[0]
        self._store.append("steps", step)

    async def _work(self, agents: list[CodingAgent], rollouts: list[Rollout]) -> None:
        allowed = self._plan.max_error_share * len(agents)

        async def one(agent: CodingAgent, rollout: Rollout) -> None:
            await agent.run()
            self._store.append("rollouts", rollout.as_dict())
            failed = [r for r in rollouts if r.status == "failed"]
            if len(failed) > allowed:
                raise TooManyErrors(
                    f"{len(failed)} of {len(agents)} agents failed, more than {self._plan.max_error_share:.0%}",
                    details=sorted({f"{r.agent}: {r.error}" for r in failed})[:5],
                    hint="`thunderctl logs` tells more; runs.max_error_share sets the limit",
                )

        try:
            async with asyncio.TaskGroup() as group:
                for agent, rollout in zip(agents, rollouts, strict=True):
                    group.create_task(one(agent, rollout))
        except BaseExceptionGroup as several:
            stop = several.split(TooManyErrors)[0]
            raise (stop or several).exceptions[0] from None

    async def _judge(self, agents: list[CodingAgent], rollouts: list[Rollout]) -> None:
        places = asyncio.Semaphore(JUDGES)

        async def one(agent: CodingAgent, rollout: Rollout) -> None:
            async with places:
                await agent.judge()
            self.progress.judged += 1
            self._store.append("rollouts", rollout.as_dict())

        await asyncio.gather(*(one(a, r) for a, r in zip(agents, rollouts, strict=True)))

    # ------------------------------------------------------------------ what the daemon saw

    async def _skip_the_past(self) -> None:
        """What a daemon did before this run is not this run's."""
        for name, fetch in (("decisions", self._client.decisions), ("samples", self._client.samples)):
            past = await fetch(0)
            self._seen[name] = past[-1]["n"] if past else 0
        await self._collect(now=True)

    async def _keep_collecting(self) -> None:
        while True:
            await asyncio.sleep(COLLECT_S)
            with contextlib.suppress(ThunderError):  # the agents themselves notice a daemon that is gone
                await self._collect()

    async def _collect(self, *, now: bool = False) -> None:
        began = self.progress.began + time.time() - time.monotonic()
        decisions = await self._client.decisions(self._seen["decisions"])
        samples = await self._client.samples(self._seen["samples"], now=now)
        for name, records in (("decisions", decisions), ("samples", samples)):
            for record in records:
                self._seen[name] = record["n"]
                self._store.append(name, {**record, "at": round(record["at"] - began, 3)})
        disk = await self._client.disk()
        self._store.append("disk", {"at": round(self._clock(), 3), **disk})

    def _write_predictions(self, rollouts: list[Rollout]) -> None:
        """SWE-bench's form, one prediction an instance: the first agent that submitted speaks for it."""
        found: dict[str, dict[str, str]] = {}
        for rollout in rollouts:
            if rollout.status == "submitted":
                found.setdefault(
                    rollout.instance_id,
                    {
                        "model_name_or_path": f"thunderctl-{rollout.kind}",
                        "instance_id": rollout.instance_id,
                        "model_patch": rollout.patch,
                    },
                )
        self._store.write("preds.json", found)


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


def redacted(argv: list[str]) -> list[str]:
    """The command line without anything that looks like a secret."""
    hidden = ("key", "token", "secret", "password")
    return [
        a.split("=", 1)[0] + "=…" if "=" in a and any(h in a.split("=", 1)[0].lower() for h in hidden) else a
        for a in argv
    ]


def own_argv() -> list[str]:
    return ["thunderctl", *redacted(sys.argv[1:])]
