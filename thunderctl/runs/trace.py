"""Runs of traces: N agents take programs from one queue, until it ends or the clock does. No tool environments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from thunderctl.agents.desk import Desk
from thunderctl.agents.trace import ProgramRollout, TraceAgent
from thunderctl.runs.driver import Progress
from thunderctl.runs.store import RunFolder
from thunderctl.traces.trace import Start, Trace, TraceProgram, Work, count_steps


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

    def crew(self, desk: Desk, store: RunFolder, progress: Progress) -> TraceCrew:
        return TraceCrew(self, desk)


class TraceCrew:
    """Agents that take the next program when they are done with one."""

    def __init__(self, plan: TracePlan, desk: Desk) -> None:
        self._work = plan.work()
        self._desk = desk

    async def begin(self) -> None:
        """Nobody needs anything."""

    def next_agent(self, place: int) -> tuple[TraceAgent, ProgramRollout] | None:
        assignment = self._work.take()
        if assignment is None:
            return None
        run = self._desk.run
        rollout = ProgramRollout(
            f"agent-{place:03d}", f"{run}/{assignment.id}", assignment.program.id, assignment.first_step
        )
        agent = TraceAgent(self._desk, assignment, rollout)
        return agent, rollout

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
