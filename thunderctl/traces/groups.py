"""Groups for roll-outs: the samples of a task, made from a trace of single programs. Same arguments, same trace.

A task's recorded program says what its samples are like. The first sample is that program; each further one makes its
steps from the recorded ones, drawn with replacement, so it has answers and tools of its own, and it takes more or
fewer of them. Programs that a trace already calls samples of one task (``group``) are taken as they are recorded.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import replace

from thunderctl.traces.load import make_trace
from thunderctl.traces.trace import Trace, TraceProgram, TraceStep

SAMPLES = 8
SPREAD = 0.35
"""Standard deviation of the logarithm of a sample's number of steps, as a share of its task's. A guess: between tasks
of one repository the recorded runs have 0.3 to 0.5, and between samples of one task it should be less."""


def grouped(
    trace: Trace,
    *,
    samples: int = SAMPLES,
    longer: float = 1.0,
    limit: int | None = None,
    spread: float = SPREAD,
    seed: int = 0,
) -> Trace:
    """``samples`` programs of each task of ``trace``, next to each other, their whole first prompt in common.

    ``longer``: contexts are so many times as long, by longer first prompts and observations; what the model generates
    stays. ``limit``: a program ends with the last call whose prompt and answer have no more tokens than this, as an
    agent does at the end of its model's context; a task whose first call is longer is left out.
    """
    tasks: dict[str, list[TraceProgram]] = {}
    for program in trace.programs:
        tasks.setdefault(program.group or program.id, []).append(program)
    made: list[TraceProgram] = []
    for task, recorded in tasks.items():
        dice = random.Random(f"{seed}/{task}")  # noqa: S311 - a workload, no secret
        first_prompt = round(longer * max(program.first_prompt for program in recorded))
        shared = round(longer * min(program.shared_prefix for program in recorded))
        for number in range(samples):
            like = recorded[number % len(recorded)]
            steps = like.steps if number < len(recorded) else _drawn(like.steps, spread, dice)
            steps = _until(limit, first_prompt, (_longer(step, longer) for step in steps))
            if steps:
                sample = replace(like, id=f"{task}/{number}", group=task, first_prompt=first_prompt, steps=steps)
                made.append(replace(sample, shared_prefix=shared))
    times = "" if longer == 1 else f", contexts × {longer:g}"
    return make_trace(f"{trace.name}, groups of {samples}{times}", made)


def _drawn(steps: tuple[TraceStep, ...], spread: float, dice: random.Random) -> tuple[TraceStep, ...]:
    """Steps like these, about as many. The last one is the last recorded one: nothing follows it."""
    count = max(1, round(len(steps) * math.exp(dice.gauss(-spread * spread / 2, spread))))
    return (*dice.choices(steps[:-1] or steps, k=count - 1), steps[-1])


def _longer(step: TraceStep, longer: float) -> TraceStep:
    """The step, after which the context is ``longer`` times as much longer as it was."""
    return replace(step, observation=max(0, round(longer * (step.output + step.observation)) - step.output))


def _until(limit: int | None, first_prompt: int, steps: Iterable[TraceStep]) -> tuple[TraceStep, ...]:
    """Those of ``steps`` whose calls have at most ``limit`` tokens."""
    kept, prompt = [], first_prompt
    for step in steps:
        if limit is not None and prompt + step.reasoning + step.output > limit:
            break
        kept.append(step)
        prompt += step.output + step.observation
    return tuple(kept)
