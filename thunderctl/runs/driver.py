"""Drives a run's agents through one daemon, and stores what happens as it happens.

What kinds of runs have in common lives here: places for agents, the end of the run, what the daemon saw. Who the agents
are and what they work on is a crew's affair (``runs/tasks.py``, ``runs/trace.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from thunderctl.agents.client import DaemonClient
from thunderctl.agents.desk import Desk
from thunderctl.agents.rollout import Ending
from thunderctl.errors import ThunderError, TooManyErrors
from thunderctl.runs.pulse import Pulse
from thunderctl.runs.resume import AT_FIRST, Earlier
from thunderctl.runs.shape import Shape, Warmup
from thunderctl.runs.store import RunFolder
from thunderctl.workload.base import WorkloadEnvironment

COLLECT_S = 2.0
"""How often decisions, samples and disk use are fetched from the daemon."""
DRAIN_S = 20.0
"""How long calls and tools that run may go on once the run was told to end (on the wall)."""


class Agent(Protocol):
    """Works until its rollout ends."""

    async def run(self) -> None: ...


class Crew(Protocol):
    """Who works in a run, and on what."""

    async def begin(self) -> None:
        """What has to be said before the first agent starts."""

    async def next_agent(self, place: int) -> tuple[Agent, Ending] | None:
        """Who works at ``place`` next, and the rollout that tells of it; ``None``: nobody any more.

        It may wait until somebody can begin. Who was chosen is given at once: a wait that the run's end cuts short has
        chosen nobody.
        """

    async def dismiss(self) -> None:
        """Nobody else will start: what was prepared for them goes."""

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
    def environment(self) -> WorkloadEnvironment | None:
        """The tool environment of each agent; ``None``: they have none."""

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
    def shape(self) -> Shape:
        """When agents begin, and what is measured."""

    @property
    def max_error_share(self) -> float:
        """Once more failed than this share of those that are due, the run ends."""

    def about(self) -> dict[str, Any]:
        """The plan's part of the manifest."""

    def crew(self, desk: Desk, store: RunFolder, progress: Progress, earlier: Earlier) -> Crew:
        """Those who carry out what was not done ``earlier``."""


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
    groups: int = 0
    """Complete ones, of a roll-out."""
    rollouts: list[Ending] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    latest: dict[str, str] = field(default_factory=dict)
    """Last command of each agent; the agent that did something last stands last."""
    name: str = ""
    kind: str = ""
    """``live``, ``replay`` or ``trace``."""
    health: dict[str, Any] = field(default_factory=dict)
    """What the daemon said of itself last (``/health``)."""
    disk: dict[str, Any] = field(default_factory=dict)
    """What environments held last (``/disk``)."""

    def counts(self) -> dict[str, int]:
        """Rollouts by state."""
        found: dict[str, int] = {}
        for rollout in self.rollouts:
            found[rollout.status] = found.get(rollout.status, 0) + 1
        return found


class Driver:
    """One run. ``await drive()`` returns when all agents ended; what was stored stays, however it ends.

    ``time_scale``: seconds on the wall that one second of an emulated node takes. Times are stored in seconds of the
    node. ``earlier``: what an earlier sitting of the same run did; the clock goes on from there.
    """

    def __init__(
        self,
        plan: Plan,
        client: DaemonClient,
        store: RunFolder,
        *,
        time_scale: float = 1.0,
        earlier: Earlier = AT_FIRST,
    ) -> None:
        self._plan = plan
        self._client = client
        self._store = store
        self._time_scale = time_scale
        self._earlier = earlier
        self._lasts = min((x for x in (plan.duration_s, plan.shape.max_duration_s) if x is not None), default=None)
        on_the_wall = None if self._lasts is None else self._lasts * time_scale
        self.progress = Progress(plan.agents, plan.total_steps, on_the_wall, name=plan.name, kind=plan.kind)
        self.progress.began -= earlier.clock_s * time_scale
        desk = Desk(client, store.id, self._clock, self._noted, time_scale, lambda: self._over.is_set())
        self._crew = plan.crew(desk, store, self.progress, earlier)
        self._over = asyncio.Event()
        self._ending: asyncio.Timeout | None = None
        self._ended = "failed"
        self._window: tuple[float, float] | None = None
        self._steps_from, self._steps_to = earlier.steps_from, 0.0
        self._pulse = Pulse()
        self._seen = {"decisions": 0, "samples": 0}

    def _clock(self) -> float:
        return (time.monotonic() - self.progress.began) / self._time_scale

    @property
    def interrupted(self) -> bool:
        """Whether the run was told to end before its work was done."""
        return self._over.is_set()

    def drain(self) -> None:
        """End soon: no agent and no step begins any more, and what runs gets ``DRAIN_S`` seconds. Nothing is judged."""
        if self._over.is_set():
            return
        self._over.set()
        self.progress.phase = "draining"
        if self._ending is not None:
            by, at_most = self._ending.when(), asyncio.get_running_loop().time() + DRAIN_S
            self._ending.reschedule(at_most if by is None else min(by, at_most))

    async def drive(self) -> None:
        """Run all agents, then judge their work. ``TooManyErrors`` once too many failed."""
        await self._skip_the_past()
        watching = [asyncio.create_task(self._keep_collecting()), asyncio.create_task(self._pulse.beat())]
        try:
            await self._crew.begin()
            await self._work()
            self._refuse_if_nobody_worked()
            self._pulse.stop()
            if not self._over.is_set():
                self.progress.phase = "judging"
                await self._crew.judge()
            if self._over.is_set():
                self._ended = "interrupted"
        except TooManyErrors:
            self._ended = "too many errors"
            raise
        except asyncio.CancelledError:
            self._ended = "interrupted"
            raise
        finally:
            self.progress.phase = "ended"
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            with contextlib.suppress(ThunderError):
                await self._collect(now=True)
            self._crew.close()
            await self._crew.dismiss()
            with contextlib.suppress(ThunderError):
                await self._client.run_over(self._store.id)
            self._tell_how_it_ended()

    def _tell_how_it_ended(self) -> None:
        said = self._store.read("manifest.json")
        said |= {"ended": self._ended, "driver": self._pulse.summary()}
        if self._window is not None:
            said["window"] = list(self._window)
        self._store.write("manifest.json", said)

    def _noted(self, rollout: Ending, step: dict[str, Any]) -> None:
        self.progress.steps += 1
        self._pulse.calls += 2 if step["command"] else 1
        self._steps_from, self._steps_to = min(self._steps_from, step["at"]), step["ended"]
        if step["command"]:
            self.progress.latest.pop(rollout.agent, None)
            self.progress.latest[rollout.agent] = step["command"].splitlines()[0]
        self._store.append("steps", step)

    # ------------------------------------------------------------------ the measured part

    async def _work(self) -> None:
        began, loop = self._clock(), asyncio.get_running_loop()
        lasts = None if self._lasts is None else max(0.0, self._lasts - self._earlier.clock_s)
        until = None if lasts is None else loop.time() + lasts * self._time_scale
        by_the_clock = False
        try:
            async with asyncio.timeout_at(until) as self._ending, asyncio.TaskGroup() as group:
                if self._plan.shape.arrivals_per_min is None:
                    for place in range(self._plan.agents):
                        group.create_task(self._fill(place))
                else:
                    group.create_task(self._let_arrive(group))
        except TimeoutError:
            if self._ending is None or not self._ending.expired():
                raise
            by_the_clock = not self._over.is_set()
        except BaseExceptionGroup as several:
            stop = several.split(TooManyErrors)[0]
            raise (stop or several).exceptions[0] from None
        finally:
            self._ending = None
            self._measure(began, by_the_clock)
        if by_the_clock:
            self._ended = "duration" if self._lasts == self._plan.duration_s else "max duration"
        else:
            self._ended = "done"

    def _measure(self, began: float, by_the_clock: bool) -> None:
        """The measured window: without its warm-up, and to the second where the clock ended the run."""
        warmup = self._plan.shape.warmup
        if by_the_clock:
            assert self._lasts is not None  # noqa: S101 - what else expired
            start = 0.0 if self._earlier.sittings else began
            self._window = (start + warmup.of(self._lasts), start + self._lasts)
        elif warmup != Warmup() and self._steps_to > 0:
            length = self._steps_to - self._steps_from
            self._window = (self._steps_from + warmup.of(length), self._steps_to)

    async def _fill(self, place: int) -> None:
        """Closed loop: keep ``place`` busy for as long as there is work for it."""
        await self._wait_until(self._earlier.clock_s + self._plan.shape.opens_at(place, self._plan.agents))
        while (found := await self._next(place)) is not None:
            await self._see_through(*found)

    async def _next(self, place: int) -> tuple[Agent, Ending] | None:
        """Who works there next; ``None`` also once the run is to end."""
        if self._over.is_set():
            return None
        asked = asyncio.ensure_future(self._crew.next_agent(place))
        ending = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait({asked, ending}, return_when=asyncio.FIRST_COMPLETED)
            return asked.result() if asked.done() else None
        finally:
            asked.cancel()
            ending.cancel()

    async def _let_arrive(self, group: asyncio.TaskGroup) -> None:
        """Open loop: agents come when they come; beyond the cap they wait for a place, and are told to have come."""
        places: asyncio.Queue[int] = asyncio.Queue()
        for place in range(self._plan.agents):
            places.put_nowait(place)

        async def one(place: int, agent: Agent, rollout: Ending) -> None:
            await self._see_through(agent, rollout)
            places.put_nowait(place)

        left = None if self._plan.duration_s is not None else self._plan.due - len(self._earlier.done)
        for at in itertools.islice(self._plan.shape.arrivals(), left):
            arrived = self._earlier.clock_s + at
            await self._wait_until(arrived)
            place = await places.get()
            if (found := await self._next(place)) is None:
                return
            agent, rollout = found
            rollout.arrived = arrived
            group.create_task(one(place, agent, rollout))

    async def _wait_until(self, moment: float) -> None:
        """Until the run's clock says so, or the run is to end."""
        wait = (moment - self._clock()) * self._time_scale
        if wait > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), wait)

    async def _see_through(self, agent: Agent, rollout: Ending) -> None:
        self.progress.rollouts.append(rollout)
        self._pulse.agents += 1
        try:
            await agent.run()
        finally:
            self._pulse.agents -= 1
            if rollout.status != "running":
                self._store.append("rollouts", rollout.as_dict())
        self._stop_if_too_many_failed()

    def _stop_if_too_many_failed(self) -> None:
        failed = [r for r in self.progress.rollouts if r.status == "failed" and not r.image_missing]
        if len(failed) > self._plan.max_error_share * self._plan.due:
            raise TooManyErrors(
                f"{len(failed)} of {self._plan.due} agents failed, more than {self._plan.max_error_share:.0%}",
                details=sorted({f"{r.agent}: {r.error}" for r in failed})[:5],
                hint="`thunderctl logs` tells more; --max-error-rate or runs.max_error_share sets the limit",
            )

    def _refuse_if_nobody_worked(self) -> None:
        rollouts = self.progress.rollouts
        if rollouts and self._plan.max_error_share < 1 and all(r.status == "failed" for r in rollouts):
            raise TooManyErrors(
                "none of the agents could work",
                details=sorted({f"{r.instance_id}: {r.error}" for r in rollouts})[:5],
                hint="`thunderctl env prefetch` brings the images of a data set before a run",
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
            self._store.append("driver", {"at": round(self._clock(), 3), **self._pulse.since_last_time()})

    async def _collect(self, *, now: bool = False) -> None:
        # The daemon's own clock is the wall's; ``began`` is when this run's clock would have been 0.
        began = self.progress.began + time.time() - time.monotonic()
        decisions = await self._client.decisions(self._seen["decisions"])
        samples = await self._client.samples(self._seen["samples"], now=now)
        for name, records in (("decisions", decisions), ("samples", samples)):
            for record in records:
                self._seen[name] = record["n"]
                self._store.append(name, {**record, "at": round((record["at"] - began) / self._time_scale, 3)})
        self.progress.disk = disk = await self._client.disk()
        self._store.append("disk", {"at": round(self._clock(), 3), **disk})
        asked = time.monotonic()
        self.progress.health = await self._client.health()
        self._pulse.daemon_answered(time.monotonic() - asked)
