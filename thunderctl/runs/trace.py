"""Runs of traces: N agents take programs from one queue, until it ends or the clock does. No tool environments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from thunderctl.agents.desk import Desk
from thunderctl.agents.trace import ProgramRollout, TraceAgent
from thunderctl.runs.driver import Progress
from thunderctl.runs.resume import AT_FIRST, Earlier
from thunderctl.runs.shape import Shape
from thunderctl.runs.store import RunFolder
from thunderctl.traces.trace import Start, Trace, TraceProgram, Work, count_steps
from thunderctl.workload.base import WorkloadEnvironment


@dataclass(frozen=True, slots=True)
class TracePlan:
    """Agents that run the programs of a trace: ``programs`` of them, or for ``duration_s`` emulated seconds."""

    trace: Trace
    source: str
    """The trace's file."""
    agents: int
    max_error_share: float
    programs: int | None = None
    """With neither, as many as there are agents."""
    duration_s: float | None = None
    start: Start = "fresh"
    seed: int = 0
    shape: Shape = Shape()
    selection: Mapping[str, Any] = field(default_factory=dict)
    """How its programs were chosen from the file's, for the manifest."""

    @property
    def kind(self) -> str:
        return "trace"

    @property
    def name(self) -> str:
        """The trace's own name may be any file's."""
        plain = re.sub(r"[^A-Za-z0-9_+-]+", "-", self.trace.name)
        return f"trace-{plain}"[:60]

    @property
    def asked_programs(self) -> int | None:
        """How many programs end the run; ``None``: the clock does."""
        return None if self.duration_s is not None else self.programs or self.agents

    @property
    def environment(self) -> WorkloadEnvironment | None:
        return None

    @property
    def total_steps(self) -> int | None:
        if self.asked_programs is None:
            return None
        work = self.work()
        return count_steps(taken for taken in iter(work.take, None))

    @property
    def due(self) -> int:
        return self.asked_programs or self.agents

    def work(self) -> Work:
        """The queue, from its beginning."""
        return Work(self.trace, self.agents, programs=self.asked_programs, start=self.start, seed=self.seed)

    def about(self) -> dict[str, Any]:
        return {
            "workload": self.trace.name,
            "duration_s": self.duration_s,
            "selection": dict(self.selection),
            "tasks_are": f"of trace {self.trace.name} (digest {self.trace.digest})",
            "trace": {
                "name": self.trace.name,
                "digest": self.trace.digest,
                "file": self.source,
                "programs": self.asked_programs,
                "duration_s": self.duration_s,
                "start": self.start,
                "seed": self.seed,
            },
        }

    def crew(self, desk: Desk, store: RunFolder, progress: Progress, earlier: Earlier = AT_FIRST) -> TraceCrew:
        return TraceCrew(self, desk, earlier)


class TraceCrew:
    """Agents that take the next program when they are done with one."""

    def __init__(self, plan: TracePlan, desk: Desk, earlier: Earlier = AT_FIRST) -> None:
        work = plan.work()
        self._desk = desk
        self._earlier = earlier
        self._left = (found for found in enumerate(iter(work.take, None)) if found[0] not in earlier.done)

    async def begin(self) -> None:
        """Nobody needs anything."""

    async def next_agent(self, place: int) -> tuple[TraceAgent, ProgramRollout] | None:
        found = next(self._left, None)
        if found is None:
            return None
        index, assignment = found
        program = self._earlier.program(f"{self._desk.run}/{assignment.id}")
        rollout = ProgramRollout(
            f"agent-{place:03d}", program, assignment.program.id, assignment.first_step, index=index
        )
        agent = TraceAgent(self._desk, assignment, rollout)
        return agent, rollout

    async def dismiss(self) -> None:
        """Nothing was prepared."""

    async def judge(self) -> None:
        """Nothing was written that could be right or wrong."""

    def close(self) -> None:
        """All that there is was stored as it happened."""


def longest_call(program: TraceProgram) -> int:
    """Tokens of its longest call: prompt, after a cut on the left, and everything that the call generates."""
    longest, prompt = 0, program.first_prompt
    for step in program.steps:
        cut = min(prompt, program.context_limit or prompt)
        longest = max(longest, cut + step.reasoning + step.output)
        prompt += step.output + step.observation
    return longest
