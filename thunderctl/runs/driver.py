"""Drives a run's agents through one daemon, and stores what happens as it happens.

What kinds of runs have in common lives here: places for agents, the end of the run, what the daemon saw. Who the agents
are and what they work on is a crew's affair (``runs/tasks.py``, ``runs/trace.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from thunderctl import __version__
from thunderctl.agents.client import DaemonClient
from thunderctl.agents.desk import Desk
from thunderctl.agents.rollout import Ending
from thunderctl.errors import ThunderError, TooManyErrors
from thunderctl.profile_files import ResolvedProfile
from thunderctl.runs.store import SCHEMA, RunFolder

COLLECT_S = 2.0
"""How often decisions, samples and disk use are fetched from the daemon."""


class Agent(Protocol):
    """Works until its rollout ends."""

    async def run(self) -> None: ...


class Crew(Protocol):
    """Who works in a run, and on what."""

    async def begin(self) -> None:
        """What has to be said before the first agent starts."""

    def next_agent(self, place: int) -> tuple[Agent, Ending] | None:
        """Who works at ``place`` next, and the rollout that tells of it; ``None``: nobody any more."""

    async def judge(self) -> None:
        """What follows the measured part."""

    def close(self) -> None:
        """Store what the run came to, however it ended."""


class Plan(Protocol):
    """What a run is to do."""

    @property
    def name(self) -> str:
        """For the run's id."""

    @property
    def agents(self) -> int:
        """How many work at once."""

    @property
    def kind(self) -> str:
        """``live``, ``replay`` or ``trace``."""

    @property
    def total_steps(self) -> int | None:
        """Steps that there are to do, if that is known."""

    @property
    def duration_s(self) -> float | None:
        """Seconds after which the run is cut off; ``None``: it ends when the work does."""

    @property
    def due(self) -> int:
        """Rollouts that the run is to have; where the clock ends it, as many as there are agents."""

    @property
    def max_error_share(self) -> float:
        """Once more failed than this share of those that are due, the run ends."""

    def about(self) -> dict[str, Any]:
        """The plan's part of the manifest."""

    def crew(self, desk: Desk, store: RunFolder, progress: Progress) -> Crew:
        """Those who carry it out."""


@dataclass(slots=True)
class Progress:
    """What a live view shows. Owned by the driver, read by whoever draws."""

    agents: int
    total_steps: int | None
    """Steps that there are to do; unknown for live agents and for runs that end by the clock."""
    duration_s: float | None = None
    """Seconds on the wall that the run takes, if the clock ends it."""
    phase: str = "working"
    steps: int = 0
    judged: int = 0
    rollouts: list[Ending] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    latest: dict[str, str] = field(default_factory=dict)
    """Last command of each agent."""

    def counts(self) -> dict[str, int]:
        """Rollouts by state."""
        found: dict[str, int] = {}
        for rollout in self.rollouts:
            found[rollout.status] = found.get(rollout.status, 0) + 1
        return found


def manifest(plan: Plan, resolved: ResolvedProfile, health: dict[str, Any], argv: list[str]) -> dict[str, Any]:
    """Everything that another person needs to judge or repeat the run."""
    return {
        "schema": SCHEMA,
        "created": time.time(),
        "thunderctl": __version__,
        "python": platform.python_version(),
        "host": {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()},
        "argv": argv,
        "kind": plan.kind,
        "agents": plan.agents,
        **plan.about(),
        "profile": resolved.profile.name,
        "profile_digest": resolved.profile.digest(),
        "policy": resolved.profile.scheduler.policy,
        "engine": resolved.profile.engine.kind,
        "time_model": time_model(resolved),
        "time_scale": health.get("time_scale", 1.0),
        "workers": health["workers"],
        "environments": health["environments"],
    }


def time_model(resolved: ResolvedProfile) -> str | None:
    """What an emulated engine pretends to be, in words; ``None`` for a real one."""
    profile = resolved.profile
    if profile.engine.kind != "emulated":
        return None
    said = profile.emulation
    if said.costs is not None:
        return f"the engine measured in {said.costs.name}"
    return f"{profile.workers.tensor_parallel} × {said.gpu} with {said.model}"


class Driver:
    """One run. ``await drive()`` returns when all agents ended; what was stored stays, however it ends.

    ``time_scale``: seconds on the wall that one second of an emulated node takes. Times are stored in seconds of the
    node.
    """

    def __init__(self, plan: Plan, client: DaemonClient, store: RunFolder, *, time_scale: float = 1.0) -> None:
        self._plan = plan
        self._client = client
        self._store = store
        self._time_scale = time_scale
        lasts = None if plan.duration_s is None else plan.duration_s * time_scale
        self.progress = Progress(plan.agents, plan.total_steps, lasts)
        self._crew = plan.crew(Desk(client, store.id, self._clock, self._noted, time_scale), store, self.progress)
        self._seen = {"decisions": 0, "samples": 0}

    def _clock(self) -> float:
        return (time.monotonic() - self.progress.began) / self._time_scale

    async def drive(self) -> None:
        """Run all agents, then judge their work. ``TooManyErrors`` once too many failed."""
        await self._skip_the_past()
        collecting = asyncio.create_task(self._keep_collecting())
        try:
            await self._crew.begin()
            await self._work()
            self.progress.phase = "judging"
            await self._crew.judge()
        finally:
            self.progress.phase = "ended"
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
            with contextlib.suppress(ThunderError):
                await self._collect(now=True)
            self._crew.close()
            with contextlib.suppress(ThunderError):
                await self._client.run_over(self._store.id)

    def _noted(self, rollout: Ending, step: dict[str, Any]) -> None:
        self.progress.steps += 1
        if step["command"]:
            self.progress.latest[rollout.agent] = step["command"].splitlines()[0]
        self._store.append("steps", step)

    async def _work(self) -> None:
        began = self._clock()
        try:
            async with asyncio.timeout(self.progress.duration_s) as ending, asyncio.TaskGroup() as group:
                for place in range(self._plan.agents):
                    group.create_task(self._fill(place))
        except TimeoutError:
            if not ending.expired():
                raise
            self._store.write(
                "manifest.json",
                {**self._store.read("manifest.json"), "window": [began, began + (self._plan.duration_s or 0.0)]},
            )
        except BaseExceptionGroup as several:
            stop = several.split(TooManyErrors)[0]
            raise (stop or several).exceptions[0] from None

    async def _fill(self, place: int) -> None:
        """Keep ``place`` busy for as long as there is work for it."""
        while (found := self._crew.next_agent(place)) is not None:
            agent, rollout = found
            self.progress.rollouts.append(rollout)
            try:
                await agent.run()
            finally:
                if rollout.status != "running":
                    self._store.append("rollouts", rollout.as_dict())
            self._stop_if_too_many_failed()

    def _stop_if_too_many_failed(self) -> None:
        failed = [r for r in self.progress.rollouts if r.status == "failed"]
        if len(failed) > self._plan.max_error_share * self._plan.due:
            raise TooManyErrors(
                f"{len(failed)} of {self._plan.due} agents failed, more than {self._plan.max_error_share:.0%}",
                details=sorted({f"{r.agent}: {r.error}" for r in failed})[:5],
                hint="`thunderctl logs` tells more; runs.max_error_share sets the limit",
            )

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
                self._store.append(name, {**record, "at": round((record["at"] - began) / self._time_scale, 3)})
        disk = await self._client.disk()
        self._store.append("disk", {"at": round(self._clock(), 3), **disk})


def redacted(argv: list[str]) -> list[str]:
    """The command line without anything that looks like a secret."""
    hidden = ("key", "token", "secret", "password")
    return [
        a.split("=", 1)[0] + "=…" if "=" in a and any(h in a.split("=", 1)[0].lower() for h in hidden) else a
        for a in argv
    ]


def own_argv() -> list[str]:
    return ["thunderctl", *redacted(sys.argv[1:])]
