"""Which tokens of a call's context other calls have too, as paths through segments of one worker's KV blocks.

What is common follows from the trace alone: a prefix that all programs share, a group's first prompt, and a program's
own calls, each of which continues the prompt of the one before. Blocks in which a common part ends belong to whoever
continues it. Nothing here knows what is cached.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from thunderctl.sim.kv import END, Path, Segment
from thunderctl.traces.trace import TraceProgram


@dataclass(slots=True, eq=False)
class Commons:
    """Segments of one worker that several programs pass through."""

    block_size: int
    _shared: Segment = field(default_factory=lambda: Segment(0))
    _groups: dict[tuple[str, int], Segment] = field(default_factory=dict)

    def start_of(self, program: TraceProgram) -> list[tuple[Segment, int]]:
        """The part of a program's contexts that is common with others."""
        first = program.first_prompt // self.block_size
        shared = min(program.shared_prefix // self.block_size, first)
        path = [(self._shared, shared)]
        if program.group is not None:
            group = self._groups.setdefault((program.group, shared), Segment(shared))
            path.append((group, first))
        return path

    def fork_of(self, program: TraceProgram) -> Segment | None:
        """What the branches of one program have in common beyond :meth:`start_of`; ``None`` if it has none."""
        return Segment(self.start_of(program)[-1][1]) if program.branches > 1 else None


class Context:
    """One program's context as it has been on one worker."""

    __slots__ = ("_block_size", "_limit", "_path", "_own", "_former_prompt")

    def __init__(self, program: TraceProgram, commons: Commons, fork: Segment | None = None) -> None:
        """``fork``: what the program's branches have in common beyond the shared prefix, up to the first prompt."""
        self._block_size = commons.block_size
        self._limit = program.context_limit
        self._path = commons.start_of(program)
        if fork is not None:
            self._path.append((fork, program.first_prompt // self._block_size))
        self._own = Segment(self._path[-1][1])
        self._former_prompt = -1

    def call(self, prompt: int, *, drops_answer: bool, samples: int = 1) -> tuple[int, Path]:
        """Prompt tokens of the next call after any cut, and where its context lies.

        ``prompt`` counts before the cut. ``drops_answer``: the next prompt does not continue this call's answer, so
        what the answer occupies is found by nobody but this call itself, after a preemption. ``samples``: calls that
        are made with this prompt; it is not to be cut if there are several.
        """
        if self._limit is not None and prompt > self._limit:
            return self._limit, ((Segment(0), END),)
        aligned = prompt // self._block_size
        if samples > 1:
            if prompt != self._former_prompt:
                self._path.append((self._own, aligned))
                self._own = Segment(aligned)
        elif prompt == self._former_prompt and prompt % self._block_size == 0:
            # The very same prompt again: it may be cached whole, so that its last block is computed twice. What
            # follows must not stand in one segment with the two.
            self._path.append((self._own, aligned))
            self._own = Segment(aligned)
        self._former_prompt = prompt
        if drops_answer:
            return prompt, (*self._path, (self._own, aligned), (Segment(aligned), END))
        return prompt, (*self._path, (self._own, END))
