"""What the agents of all workloads share: asking the model, running tools, telling of each step, being judged.

Where answers come from is the only difference between *live* and *replay*: in replay the engine is forced to emit the
recorded answer, and everything else (prefill, cache, tools, observations) happens as it does live. A tool that does not
return then what it returned when the answers were recorded is counted as drift.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from thunderctl.agents.client import Answer, Lease, ToolResult
from thunderctl.agents.desk import Desk
from thunderctl.agents.rollout import CutOff, Rollout, run_to_its_end
from thunderctl.agents.tokens import ContextFull, Transcript
from thunderctl.errors import EnvironmentFailure, ThunderError
from thunderctl.workload.base import Task, Workload
from thunderctl.workload.files import RecordedStep

W = TypeVar("W", bound=Workload)
T = TypeVar("T", bound=Task)


class TrajectoryEnded(Exception):
    """A replay has no further recorded answer."""


def fill(template: str, **values: object) -> str:
    """``{{name}}`` → value; other braces stay as they are."""
    return re.sub(r"\{\{(\w+)\}\}", lambda m: str(values[m.group(1)]) if m.group(1) in values else m.group(0), template)


def clip(text: str, limit: int) -> str:
    """At most ``limit`` characters, head and tail kept, and a line that says what is missing."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def digest(output: str) -> str:
    """Of a tool's output, as trajectories hold it: 16 hexadecimal digits of the SHA-256 of its lines, sorted.

    The order in which a file system lists its entries (``grep -r``, ``find``) is not the tool's.
    """
    return hashlib.sha256("\n".join(sorted(output.splitlines())).encode()).hexdigest()[:16]


def has_drifted(recorded: RecordedStep | None, result: ToolResult) -> bool:
    """Whether a tool returned something else than when its step was recorded, in a way that was said to matter."""
    then = recorded.observation if recorded is not None else None
    if then is None:
        return False
    return result.returncode != then.returncode or (then.digest is not None and digest(result.output) != then.digest)


@dataclass(frozen=True, slots=True)
class ToolRun:
    """One tool call of a step, as it is stored."""

    command: str
    result: ToolResult
    tool_s: float
    """Seconds that the agent spent on it, without those that it waited for its environment."""
    tool: str | None = None
    """Its name, where a workload has several."""


class TaskAgent(ABC, Generic[W, T]):
    """One agent on one task. A kind of workload says what it does by ``work`` and ``judge_in``."""

    def __init__(self, desk: Desk, workload: W, task: T, rollout: Rollout) -> None:
        self._desk = desk
        self._client = desk.client
        self._workload = workload
        self._task = task
        self._rollout = rollout
        self.transcript = Transcript(desk.client) if desk.tokens else None
        """What it said and was shown, in token ids; ``None`` unless the desk wants that."""
        self._equipped = False
        self._announced: asyncio.Task[Lease] | None = None
        self._early: asyncio.Task[None] | None = None

    @property
    def tag(self) -> str:
        """A line for the top of the prompt. Without one of its own an agent would share the cache of another on the
        same task: in life it would not. The samples of a group are meant to share it."""
        return f"Session {self._desk.run}, {self._rollout.group or self._rollout.agent}."

    # ------------------------------------------------------------------ before it starts

    def prepare(self) -> None:
        """Have the environment prepared although the agent has not started; :meth:`run` goes on with it."""
        self._announced = asyncio.create_task(self._environment(self._rollout.program, wait=False))
        self._early = asyncio.create_task(self._first_command(self._announced))

    async def _first_command(self, announced: asyncio.Task[Lease]) -> None:
        # A program that never called waits in no queue, so nobody would prepare its environment: a command does.
        with contextlib.suppress(ThunderError):  # the agent meets it again when it starts
            await self._client.execute(await asyncio.shield(announced), "true")

    async def dismiss(self) -> None:
        """The agent will not start: what was prepared for it goes."""
        tasks = [task for task in (self._early, self._announced) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(ThunderError):
            await self._client.release(self._rollout.program)

    # ------------------------------------------------------------------ working

    async def run(self) -> None:
        """Work until the task is submitted, a limit is reached or something fails; the rollout says which."""
        await run_to_its_end(self._client, self._rollout, self._desk.clock, self._in_an_environment)

    async def _in_an_environment(self) -> str:
        announced = self._announced or self._environment(self._rollout.program, wait=False)
        try:
            return await self.work(await announced)
        except TrajectoryEnded:
            return "trajectory ended"
        except ContextFull:
            return "context full"

    @abstractmethod
    async def work(self, lease: Lease) -> str:
        """Step by step, in the environment that is being prepared; the status it ended with."""

    async def _environment(self, program: str, *, wait: bool) -> Lease:
        spec = self._workload.environment
        return await self._client.environment(
            program,
            self._desk.run,
            image=self._task.image or spec.image,
            files=self._task.files,
            setup=spec.setup,
            env=spec.env,
            wait=wait,
        )

    def recorded(self) -> RecordedStep | None:
        """What this step's answer has to be; ``None`` where the model decides."""
        if self._rollout.kind != "replay":
            return None
        steps = self._task.trajectory or []
        if self._rollout.steps >= len(steps):
            raise TrajectoryEnded
        return steps[self._rollout.steps]

    async def ask(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> Answer:
        """The model's answer for this step. ``tools``: OpenAI function schemas."""
        recorded, rollout = self.recorded(), self._rollout
        if self._desk.over():
            raise CutOff
        how: dict[str, Any] = {
            "max_tokens": self._workload.limits.output_tokens,
            "replay": recorded.content if recorded is not None else None,
            "sampling": self._desk.sampling if recorded is None else None,
            "group": rollout.group,
            "tools": tools,
        }
        if self.transcript is not None:
            answer = await self.transcript.ask(rollout.program, messages, step=rollout.steps + 1, **how)
        else:
            answer = await self._client.chat(rollout.program, messages, **how)
        if recorded is not None and answer.content != recorded.content:
            raise ThunderError(f"step {rollout.steps + 1}: the engine did not emit the recorded answer")
        return answer

    async def use(self, lease: Lease, command: str, tool: str | None = None, timeout_s: float | None = None) -> ToolRun:
        """Run a command in the environment; its deadline is ``timeout_s``, else the profile's."""
        began = time.monotonic()
        rollout = self._rollout
        try:
            result = await self._client.execute(lease, command, timeout_s)
        except EnvironmentFailure:
            rollout.image_missing = self._task.image is not None and not self._equipped
            raise
        self._equipped = True
        rollout.prepare_s = result.prepared_s
        rollout.environment_wait_s += result.waited_s
        return ToolRun(command, result, time.monotonic() - began - result.waited_s, tool)

    def note(self, began: float, answer: Answer, observation: str, ran: ToolRun | None = None, **more: Any) -> None:
        """Tell that a step is over. ``began``: when its call was sent, by the run's clock."""
        rollout, recorded = self._rollout, self.recorded()
        step = {
            "agent": rollout.agent,
            "program": rollout.program,
            "step": rollout.steps + 1,
            "at": began,
            **asdict(answer),
            "command": ran.command if ran else None,
            "tool_s": ran.tool_s if ran else 0.0,
            "observation": observation,
            "ended": self._desk.clock(),
            **more,
        }
        if ran is not None:
            drifted = has_drifted(recorded, ran.result)
            rollout.drifted += drifted
            step |= {"returncode": ran.result.returncode, "timed_out": ran.result.timed_out, "drifted": drifted}
            step["digest"] = digest(ran.result.output)
            if ran.tool is not None:
                step["tool"] = ran.tool
        rollout.steps += 1
        self._desk.noted(rollout, step)

    # ------------------------------------------------------------------ being judged

    async def judge(self) -> None:
        """Find out, in a fresh environment of the untouched task, whether the submission is right."""
        rollout = self._rollout
        if not self._task.can_be_judged or rollout.status != "submitted":
            return
        program = f"{rollout.program}.judge"
        try:
            lease = await self._environment(program, wait=True)
            rollout.resolved, rollout.parts = await self.judge_in(lease)
        except ThunderError as failure:
            rollout.error = f"not judged: {failure.message}"
        finally:
            await asyncio.shield(self._client.release(program))

    def gold(self) -> str | None:
        """A submission that is right; ``None`` if the task has none. `thunderctl workload validate` has it judged."""
        return None if self._task.gold is None else self._task.gold.read_text(encoding="utf-8")

    def untouched(self) -> str:
        """What somebody hands in who did nothing; validation wants it to be judged wrong."""
        return ""

    @abstractmethod
    async def judge_in(self, lease: Lease) -> tuple[bool, dict[str, bool | float]]:
        """Whether it is resolved, and what that is made of."""
