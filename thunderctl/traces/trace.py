"""What a trace is: programs as token counts and tool times. Plain data; files are read in ``load.py``.

A program's step is one model call and the tool that follows it. The prompt of the next call is the prompt of this one,
then ``output``, then ``observation``; ``reasoning`` tokens are generated before ``output`` and dropped afterwards, so
what follows them in the KV cache cannot be reused.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

Start = Literal["fresh", "steady"]


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One model call and its tool. Counts in tokens."""

    output: int
    """Generated, and kept in the context."""
    reasoning: int
    """Generated before ``output``, and not kept."""
    observation: int
    """Appended after the answer, before the next call."""
    tool_s: float
    """Seconds from the end of this call to the start of the next one."""


@dataclass(frozen=True, slots=True)
class TraceProgram:
    """One recorded or synthetic agent run."""

    id: str
    first_prompt: int
    """Tokens of the first call's prompt."""
    steps: tuple[TraceStep, ...]
    label: str = ""
    """Whatever tells programs apart in statistics, e.g. the repository or the task."""
    group: str | None = None
    """Programs of one group are samples of one task: their whole first prompt is the same."""
    shared_prefix: int = 0
    """Leading tokens of the first prompt that are the same in every program of the trace."""
    context_limit: int | None = None
    """A longer prompt is cut on the left to this many tokens, which ends the reuse of its prefix."""
    samples: int = 1
    """Calls of each step with the very same prompt, made at once; the first one's answer goes on."""
    branches: int = 1
    """Contexts that go on side by side, e.g. of sub-agents: each step calls once for each, at once. They have the first
    prompt in common; what a branch adds in a step is what the program's own context adds some steps later."""

    def step_of(self, branch: int, step: int) -> TraceStep:
        """What ``branch`` does in step ``step``; branch 0 is the program itself, whose tool it is that runs."""
        return self.steps[(step + branch) % len(self.steps)]

    def prompt_at(self, step: int) -> int:
        """Tokens of the prompt of call ``step`` (from 0), before any cut."""
        return self.first_prompt + sum(s.output + s.observation for s in self.steps[:step])

    @property
    def final_context(self) -> int:
        """Tokens of the context when the last tool has ended, before any cut."""
        return self.prompt_at(len(self.steps))


@dataclass(frozen=True, slots=True)
class Trace:
    """Programs in the order of their file. ``digest`` is a hash of their content: same digest, same work."""

    name: str
    programs: tuple[TraceProgram, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """A program as one agent runs it."""

    id: str
    """Unique within a run, e.g. ``p00017``: the same program may be taken several times."""
    program: TraceProgram
    first_step: int
    """The step to begin with. Its prompt is taken as read, so the first call prefills all of it."""


class Work:
    """The queue that agents take programs from: a seeded shuffle of the trace, again and again.

    Programs of one group that stand next to each other in the trace are taken one after the other; taken once more,
    they are a group of their own.

    ``start``: ``fresh`` begins every program at its first step. ``steady`` begins each agent's first program somewhere
    in its midst, drawn uniformly over all steps of the trace, as one would find a cluster that has run for long; the
    samples of a group have then done the same share of their steps.
    ``programs`` ends the queue after so many; ``None``: never. Same arguments, same queue; who takes a program when
    does not change it.
    """

    def __init__(
        self, trace: Trace, agents: int, *, programs: int | None = None, start: Start = "fresh", seed: int = 0
    ) -> None:
        self._agents = agents
        self._left = programs
        self._start = start
        self._random = random.Random(f"{seed}/{trace.digest}")  # noqa: S311 - a workload, no secret
        self._units = [
            tuple(unit) for _, unit in groupby(trace.programs, key=lambda p: (p.group is None, p.group or p.id))
        ]
        self._round: list[tuple[TraceProgram, ...]] = []
        self._steps: list[tuple[tuple[TraceProgram, ...], float]] = []
        if start == "steady":
            self._steps = [
                (unit, step / len(program.steps))
                for unit in self._units
                for program in unit
                for step in range(len(program.steps))
            ]
        self._next: deque[tuple[TraceProgram, int]] = deque()
        """What is left of the unit that is being taken, and the step to begin with."""
        self._times: Counter[str] = Counter()
        """How often each group was begun, by its first program."""
        self._taken = 0

    def take(self) -> Assignment | None:
        """The next program; ``None`` when the queue has ended."""
        if self._left is not None and self._taken >= self._left:
            return None
        if not self._next:
            self._begin_unit()
        name = f"p{self._taken:05d}"
        program, step = self._next.popleft()
        self._taken += 1
        return Assignment(name, program, step)

    def _begin_unit(self) -> None:
        """Turn to a further group, or a program that has none."""
        done = 0.0
        if self._start == "steady" and self._taken < self._agents:
            unit, done = self._random.choice(self._steps)
        else:
            if not self._round:
                self._round = list(self._units)
                self._random.shuffle(self._round)
            unit = self._round.pop()
        group = unit[0].group
        if group is not None:
            self._times[unit[0].id] += 1
            if (times := self._times[unit[0].id]) > 1:
                unit = tuple(replace(program, group=f"{group}, {times}") for program in unit)
        # A share of whole steps comes out as that step again; rounding must not make it the one before.
        self._next.extend((program, int(done * len(program.steps) + 1e-9)) for program in unit)


def count_steps(assignments: Iterable[Assignment]) -> int:
    """Model calls that these assignments make in all."""
    return sum(len(a.program.steps) - a.first_step for a in assignments)
