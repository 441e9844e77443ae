"""Carries a roll-out out: a run's crew whose agents work in groups.

Samples of a group begin next to each other, those of the next group when places are free, and of no further one while
enough complete groups wait for the trainer. What an agent hands in is judged as soon as it ends, while others work on;
a group is complete when its samples are judged, and only then is it written and given away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from thunderctl.agents.desk import Desk
from thunderctl.agents.loop import TaskAgent
from thunderctl.agents.rollout import Ending, Rollout
from thunderctl.agents.weights_client import weights
from thunderctl.report.work import model_of, profile_of
from thunderctl.rollouts.figures import line_of, newest_in
from thunderctl.rollouts.files import GroupFiles
from thunderctl.rollouts.groups import OpenGroup
from thunderctl.rollouts.schema import Sample
from thunderctl.rollouts.sources import Place, SampleAgent, SampleRollout, group_name
from thunderctl.runs.driver import Progress
from thunderctl.runs.resume import AT_FIRST, Earlier
from thunderctl.runs.store import RunFolder
from thunderctl.runs.tasks import JUDGES

if TYPE_CHECKING:
    from thunderctl.rollouts.plan import GroupPlan


OF_THE_RUN = (
    "created", "thunderctl", "python", "argv", "workload", "kind", "tasks_are", "rollout", "engine", "time_model",
    "profile", "profile_digest", "policy", "seed", "workers",
)  # fmt: skip
"""What the run's manifest has that a reader of the roll-out's folder wants to know as well."""


@dataclass(eq=False)
class Work:
    """An agent's work on one sample. It can be cut off without an end to its place."""

    crew: GroupCrew
    group: OpenGroup
    index: int
    attempt: int
    agent: SampleAgent
    rollout: SampleRollout
    _inner: asyncio.Task[None] | None = None
    _cut: bool = False

    async def run(self) -> None:
        self.crew.began(self)
        self._inner = asyncio.create_task(self.agent.run())
        if self._cut:  # its group closed between its choice and its begin
            self._inner.cancel()
        stopped = True
        try:
            await self._inner
            stopped = False
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if not self._cut or (me is not None and me.cancelling()):
                raise
            stopped = False
            if self.rollout.status == "running":  # it was cut off before its first line
                self.rollout.status = "cut off"
                self.crew.never_worked(self)
        finally:
            self.crew.ended(self, stopped=stopped)

    def cut_off(self) -> None:
        """End it now: its call is aborted and its environment goes."""
        self._cut = True
        if self._inner is not None and not self._inner.done():
            self._inner.cancel()

    def sample(self) -> Sample:
        """What came of it so far."""
        rollout, transcript = self.rollout, self.agent.transcript
        sample = Sample(
            task=self.group.task,
            group=self.group.name,
            index=self.index,
            attempt=self.attempt,
            program=rollout.program,
            kind=rollout.kind,
            status=rollout.status,
            segments=transcript.segments if transcript is not None else [],
            breaks=transcript.breaks if transcript is not None else [],
            steps=rollout.steps,
            started=rollout.started,
            ended=rollout.ended,
            error=rollout.error,
        )
        if isinstance(rollout, Rollout):
            sample.submission = rollout.submission
        return sample


@dataclass(eq=False)
class Done:
    """A group that is being done, with those who do it."""

    group: OpenGroup
    works: dict[int, Work] = field(default_factory=dict)
    """Who runs, by index."""
    judging: list[asyncio.Task[None]] = field(default_factory=list)
    first_call: float | None = None
    timer: asyncio.TimerHandle | None = None


class GroupCrew:
    """The agents of a roll-out, and its complete groups."""

    def __init__(
        self, plan: GroupPlan, desk: Desk, store: RunFolder, progress: Progress, earlier: Earlier = AT_FIRST
    ) -> None:
        self._plan = plan
        self._rules = plan.rules
        self._store = store
        self._progress = progress
        self._earlier = earlier
        self._tell_step = desk.noted
        self._desk = replace(desk, noted=self._noted, tokens=True, sampling=plan.sampling)
        self._files = GroupFiles(plan.out) if plan.out is not None else None
        self._whole = self._files.done() if self._files is not None else set()
        self._left = deque(number for number in range(plan.total) if group_name(number) not in self._whole)
        self._open: dict[str, Done] = {}
        """Groups that are not complete, in the order in which they began."""
        self._coming: deque[Work] = deque()
        """Who is next, with an environment that is being prepared."""
        self._drawn = 0
        self._judges = asyncio.Semaphore(JUDGES)
        self._finishing = 0
        """Groups whose samples have all ended, and that are being judged or written."""
        self._writing = asyncio.Lock()
        self._write: asyncio.Future[None] | None = None
        """The last one that was begun: a thread cannot be cancelled, so its end is waited for."""
        self._background: set[asyncio.Task[None]] = set()
        self._version = 0
        self._failure: BaseException | None = None
        self._news = asyncio.Event()
        if plan.shelf is not None:
            plan.shelf.taken = self._tell

    # ------------------------------------------------------------------ who is next

    async def begin(self) -> None:
        self._version = int((await weights(self._desk.client))["version"])
        if self._files is not None:
            self._begin_files(self._files)
        await self._plan.source.begin(self._desk, list(self._left))

    def _begin_files(self, files: GroupFiles) -> None:
        if not self._earlier.sittings:
            said = self._store.read("manifest.json")
            files.write_manifest(
                {
                    "run": self._store.id,
                    **{key: said[key] for key in OF_THE_RUN},
                    "dataset": said.get("asked", {}).get("dataset"),
                    "model": model_of(profile_of(self._store)),
                    "weights_version": self._version,
                }
            )
        told = {line["group"] for line in self._store.lines("groups")}
        lacking = self._whole - told  # written by a sitting that was killed before it could tell
        for group in files.read() if lacking else ():
            if group.name in lacking:
                self._store.append("groups", line_of(group, newest_in(group)))

    async def next_agent(self, place: int) -> tuple[Work, Ending] | None:
        while True:
            if self._failure is not None:
                raise self._failure
            work = self._coming.popleft() if self._coming else self._draw()
            if work is not None:
                self._drawn += 1
                self._prepare_those_that_come()
                return work, work.rollout
            if not self._left and all(each.group.settled for each in self._open.values()):
                return None
            await self._news.wait()

    def _tell(self) -> None:
        """Something changed: whoever waits for a sample looks again."""
        self._news.set()
        self._news = asyncio.Event()

    def _draw(self) -> Work | None:
        """The next sample of the oldest group that has one left, else the first of a new group."""
        waiting = next((each for each in self._open.values() if each.group.wants_more), None)
        if waiting is None and self._left and self._may_begin_a_group():
            number = self._left.popleft()
            group = OpenGroup(number, group_name(number), self._plan.source.task_of(number), self._rules)
            waiting = self._open[group.name] = Done(group)
        return None if waiting is None else self._hire(waiting)

    def _may_begin_a_group(self) -> bool:
        shelf, ahead = self._plan.shelf, self._rules.ahead
        return shelf is None or ahead is None or shelf.waiting + self._finishing <= ahead

    def _hire(self, of: Done) -> Work:
        group = of.group
        index, attempt = group.begin_next()
        name = f"{group.name}.{index}" + (f".again{attempt - 1}" if attempt > 1 else "")
        place = Place(
            number=group.number,
            index=index,
            agent=name,
            program=self._earlier.program(f"{self._desk.run}/{name}"),
            group=f"{self._desk.run}/{group.name}",
            of_all=group.number * self._rules.samples + index,
        )
        agent, rollout = self._plan.source.agent(self._desk, place)
        work = of.works[index] = Work(self, group, index, attempt, agent, rollout)
        return work

    def _prepare_those_that_come(self) -> None:
        """Once every place is taken: until then whoever is next begins at once, and announces its own."""
        if self._drawn < self._plan.agents:
            return
        while len(self._coming) < self._plan.look_ahead and (work := self._draw()) is not None:
            if isinstance(work.agent, TaskAgent):
                work.agent.prepare()
            self._coming.append(work)

    # ------------------------------------------------------------------ what happens to a sample

    def began(self, work: Work) -> None:
        of = self._open[work.group.name]
        if of.timer is None and self._rules.timeout_s is not None:
            wait = self._rules.timeout_s * self._desk.time_scale
            of.timer = asyncio.get_running_loop().call_later(wait, self._time_is_up, of)

    def _noted(self, rollout: Ending, step: dict[str, Any]) -> None:
        of = self._open.get(rollout.agent.partition(".")[0])
        if of is not None:
            of.first_call = min(step["at"], of.first_call if of.first_call is not None else step["at"])
        self._tell_step(rollout, step)

    def never_worked(self, work: Work) -> None:
        """It was cut off before its agent's first line: what was prepared for it goes."""
        work.rollout.started = work.rollout.ended = self._desk.clock()
        if isinstance(work.agent, TaskAgent):
            self._do(work.agent.dismiss())

    def ended(self, work: Work, *, stopped: bool) -> None:
        """``stopped``: by the end of the run, which leaves its group as it is."""
        if stopped or self._desk.over():
            return
        of = self._open[work.group.name]
        of.works.pop(work.index, None)
        sample = work.sample()
        if of.group.ended(sample):
            self._have_judged(of, work, sample)
        if of.group.enough:
            self._close(of)
        self._look_whether_settled(of)
        self._tell()

    def _time_is_up(self, of: Done) -> None:
        if of.group.enough:
            return  # those that are too many are being cut off already
        of.group.time_is_up()
        self._close(of)
        self._look_whether_settled(of)
        self._tell()

    def _close(self, of: Done) -> None:
        """What runs of it is cut off, and what was prepared for it goes."""
        coming = [work for work in self._coming if work.group is of.group]
        for work in coming:
            self._coming.remove(work)
            of.works.pop(work.index, None)
            of.group.never_began(work.sample())
            if isinstance(work.agent, TaskAgent):
                self._do(work.agent.dismiss())
        for work in of.works.values():
            work.cut_off()

    def _look_whether_settled(self, of: Done) -> None:
        if of.group.settled and of.group.name in self._open:
            del self._open[of.group.name]
            if of.timer is not None:
                of.timer.cancel()
            self._finishing += 1
            self._do(self._finish(of))

    def _do(self, what: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """In the background; what fails there ends the roll-out."""
        task = asyncio.create_task(what)
        self._background.add(task)
        task.add_done_callback(self._was_done)
        return task

    def _was_done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failure = self._failure or failure
            self._tell()

    # ------------------------------------------------------------------ complete groups

    def _have_judged(self, of: Done, work: Work, sample: Sample) -> None:
        if self._plan.judged and isinstance(work.agent, TaskAgent) and isinstance(work.rollout, Rollout):
            of.judging.append(self._do(self._judge(work.agent, work.rollout, sample)))

    async def _judge(self, agent: TaskAgent[Any, Any], rollout: Rollout, sample: Sample) -> None:
        if rollout.status == "submitted":
            async with self._judges:
                if self._desk.over():
                    return
                await agent.judge()
            self._store.append("rollouts", rollout.as_dict())
            sample.reward = None if rollout.resolved is None else float(rollout.resolved)
        self._progress.judged += 1
        sample.error = rollout.error
        sample.parts = {name: float(value) for name, value in rollout.parts.items()}

    async def _finish(self, of: Done) -> None:
        """Wait for the judges; then the group is complete."""
        await asyncio.gather(*of.judging)
        if self._desk.over():
            return  # it stays one that waits: no further one begins anyway
        group = of.group.complete(of.first_call if of.first_call is not None else self._desk.clock())
        version = int((await weights(self._desk.client))["version"])
        if self._files is not None:
            async with self._writing:
                self._write = asyncio.ensure_future(asyncio.to_thread(self._files.write, group))
                await asyncio.shield(self._write)
        self._store.append("groups", await asyncio.to_thread(line_of, group, version))
        self._progress.groups += 1
        self._finishing -= 1
        if self._plan.shelf is not None:
            self._plan.shelf.put(group)

    async def judge(self) -> None:
        """All have ended; what is not judged and not written yet is."""
        while self._background and self._failure is None:
            await asyncio.wait(self._background, return_when=asyncio.FIRST_COMPLETED)
        if self._failure is not None:
            raise self._failure

    async def dismiss(self) -> None:
        """Nobody else starts: what was prepared goes, and what is not complete stays so."""
        for of in self._open.values():
            if of.timer is not None:
                of.timer.cancel()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if self._write is not None:
            await asyncio.gather(self._write, return_exceptions=True)
        prepared = [work.agent for work in self._coming if isinstance(work.agent, TaskAgent)]
        self._coming.clear()
        with contextlib.suppress(Exception):
            await asyncio.gather(*(agent.dismiss() for agent in prepared))

    def close(self) -> None:
        """All that there is was stored as it happened."""
        if self._plan.shelf is not None:
            self._plan.shelf.close()
