"""The trace agent: one program of token counts and tool times, run through the daemon as a coding agent would be.

Prompts are random token ids and the engine is forced to emit random token ids, so cache, admission and batching see
what a real agent's calls show them; tools are waits. Ids follow from the run, the assignment and the trace alone:
every assignment has its own, and only what the trace calls shared (``shared_prefix``, ``group``) is the same.

A node may run slower than the time it emulates: ``time_scale`` seconds on the wall are one emulated second. Waits are
stretched by it, and every time that is recorded is in emulated seconds.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import asdict, dataclass
from typing import Any

from thunderctl.agents.client import Answer
from thunderctl.agents.desk import Desk
from thunderctl.agents.rollout import CutOff, run_to_its_end
from thunderctl.agents.tokens import REWRITTEN, TRUNCATED, Transcript
from thunderctl.errors import ThunderError
from thunderctl.traces.trace import Assignment, TraceStep

IDS = range(300, 8000)
"""Token ids to draw from: in the vocabulary of every model that can replay, and none of them special."""
COMMAND = "(recorded tool)"


@dataclass(slots=True)
class ProgramRollout:
    """One program's run from start to end, as it is stored. Times in emulated seconds since the run began."""

    agent: str
    program: str
    instance_id: str
    """The program's id in the trace."""
    first_step: int
    """Step of the trace that it began with, from 0."""
    kind: str = "trace"
    status: str = "running"
    """``finished``, ``failed``, or ``cut off`` by the end of the run."""
    error: str | None = None
    image_missing: bool = False
    index: int = 0
    arrived: float | None = None
    started: float = 0.0
    ended: float = 0.0
    steps: int = 0
    group: str | None = None
    """The group of samples that it belongs to, instead of the trace's own."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Context:
    """The token ids of one assignment, call by call."""

    def __init__(self, assignment: Assignment, run: str, group: str | None = None) -> None:
        program = assignment.program
        group = group or program.group
        self._limit = program.context_limit
        self._own = random.Random(f"{run}/{assignment.id}")  # noqa: S311 - token ids, no secret
        shared = _ids(random.Random(f"{run}/shared prefix"), program.shared_prefix)  # noqa: S311
        rest = program.first_prompt - len(shared)
        source = self._own if group is None else random.Random(f"{run}/group {group}")  # noqa: S311
        self._ids = [*shared, *_ids(source, rest)]
        # What happened before the first step that is run is taken as read.
        self._ids += _ids(self._own, program.prompt_at(assignment.first_step) - program.first_prompt)

    @property
    def is_cut(self) -> bool:
        """Whether the next prompt is cut on the left, to fit."""
        return self._limit is not None and len(self._ids) > self._limit

    def call(self, step: TraceStep) -> tuple[list[int], list[int]]:
        """Prompt of the next call and what the engine is to emit: reasoning first, then what stays."""
        prompt = self._ids[-self._limit :] if self._limit is not None else list(self._ids)
        emitted = _ids(self._own, step.reasoning + step.output)
        self._ids += emitted[step.reasoning :]
        return prompt, emitted

    def observe(self, step: TraceStep) -> None:
        """Append what the tool of ``step`` showed."""
        self._ids += _ids(self._own, step.observation)


def _ids(source: random.Random, count: int) -> list[int]:
    return source.choices(IDS, k=count)


class TraceAgent:
    """Runs one assignment. The desk's clock is in emulated seconds."""

    def __init__(self, desk: Desk, assignment: Assignment, rollout: ProgramRollout) -> None:
        self._rollout = rollout
        self.transcript = Transcript(desk.client) if desk.tokens else None
        """Its calls in token ids; ``None`` unless the desk wants them."""
        self._client = desk.client
        self._assignment = assignment
        self._run = desk.run
        self._clock = desk.clock
        self._noted = desk.noted
        self._time_scale = desk.time_scale
        self._over = desk.over

    async def run(self) -> None:
        """Work until the program ends, something fails or the run is over; the rollout says which."""
        await run_to_its_end(self._client, self._rollout, self._clock, self._work)

    async def _work(self) -> str:
        assignment, rollout = self._assignment, self._rollout
        program = assignment.program
        group = rollout.group or program.group
        context = Context(assignment, self._run, group)
        for step in program.steps[assignment.first_step :]:
            if self._over():
                raise CutOff
            why = TRUNCATED if context.is_cut else REWRITTEN  # reasoning is left out of what follows it
            prompt, emitted = context.call(step)
            began = self._clock()
            answer = await self._ask(prompt, emitted, group, why)
            if answer.output_tokens != len(emitted):
                raise ThunderError(
                    f"call {rollout.steps + 1}: the engine emitted {answer.output_tokens} tokens, not {len(emitted)}"
                )
            tool_began = self._clock()
            if step.tool_s > 0:
                await self._client.tool(rollout.program, "started")
                due = tool_began + step.tool_s
                await asyncio.sleep(max(0.0, due - self._clock()) * self._time_scale)
                await self._client.tool(rollout.program, "finished")
            context.observe(step)
            ended = self._clock()
            rollout.steps += 1
            place = assignment.first_step + rollout.steps
            self._noted(
                rollout,
                {
                    "agent": rollout.agent, "program": rollout.program, "step": place, "at": began,
                    "ended": ended, "latency_s": answer.latency_s / self._time_scale,
                    "held_s": answer.held_s / self._time_scale, "prompt_tokens": answer.prompt_tokens,
                    "cached_tokens": answer.cached_tokens, "output_tokens": answer.output_tokens,
                    "worker": answer.worker, "attempts": answer.attempts, "tool_s": ended - tool_began,
                    "command": COMMAND,
                },
            )  # fmt: skip
        return "finished"

    async def _ask(self, prompt: list[int], emitted: list[int], group: str | None, why: str) -> Answer:
        program, step = self._rollout.program, self._rollout.steps + 1
        if self.transcript is None:
            return await self._client.complete(program, prompt, emitted, group=group)
        return await self.transcript.complete(program, prompt, emitted, step=step, group=group, why=why)
