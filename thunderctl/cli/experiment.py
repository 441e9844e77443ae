"""The policies' experiment: which loads there are, and how one policy is simulated under one load.

Every load is made from a trace by a rule that stands in ``LOADS``. Commands choose and print; ``report/experiment.py``
counts.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

from thunderctl.cli.simulated import policy_for
from thunderctl.report.experiment import Outcome
from thunderctl.report.stats import summarise
from thunderctl.sim.driver import simulate
from thunderctl.sim.worker import SimWorker
from thunderctl.traces.load import find_trace, load_trace, make_trace
from thunderctl.traces.trace import Start, Trace, TraceProgram, Work

Change = Callable[[TraceProgram, random.Random, int], TraceProgram]
SHARED_TOKENS = 16_000


def short_tools(program: TraceProgram, _dice: random.Random, _number: int) -> TraceProgram:
    """Each tool a fifth of its length, 0.4 s at most."""
    return replace(program, steps=tuple(replace(s, tool_s=min(s.tool_s, 2.0) / 5) for s in program.steps))


def long_tails(program: TraceProgram, dice: random.Random, _number: int) -> TraceProgram:
    """A tenth of the tools take one to four minutes."""
    return replace(
        program,
        steps=tuple(replace(s, tool_s=dice.uniform(60, 240)) if dice.random() < 0.1 else s for s in program.steps),
    )


def shared_prefix(program: TraceProgram, _dice: random.Random, _number: int) -> TraceProgram:
    """16,000 leading tokens in common and little of its own: about nine tenths of what a worker holds."""
    steps = tuple(
        replace(s, output=max(1, s.output // 2), observation=s.observation // 5) if s.output else s
        for s in program.steps
    )
    first = SHARED_TOKENS + program.first_prompt // 4
    return replace(program, first_prompt=first, shared_prefix=SHARED_TOKENS, steps=steps)


def groups_of_eight(program: TraceProgram, _dice: random.Random, number: int) -> TraceProgram:
    """Eight samples of each task: the whole first prompt in common, 6,000 tokens long."""
    return replace(program, first_prompt=6000, group=f"g{number // 8}")


def as_it_is(program: TraceProgram, _dice: random.Random, _number: int) -> TraceProgram:
    return program


@dataclass(frozen=True, slots=True)
class Load:
    """``overload``: agents ÷ those whose contexts fill the workers. Such a load begins ``fresh`` or ``steady``."""

    name: str
    overload: float
    workers: int = 1
    change: Change = as_it_is
    trace: str = ""
    """A bundled trace; empty: the one that the experiment is about."""
    start: Start = "steady"
    quick: bool = False
    """Part of the short version of the experiment."""


LOADS = (
    *(
        Load(f"{x:g}× on {w}", x, w, quick=(w, x) in ((1, 0.5), (1, 1), (1, 3), (2, 2)))
        for w in (1, 2, 4)
        for x in (0.5, 1, 2, 3, 5)
    ),
    Load("short tools", 3, 1, short_tools),
    Load("short tools, 2", 3, 2, short_tools),
    Load("long tails", 3, 1, long_tails, quick=True),
    Load("long tails, 2", 3, 2, long_tails),
    Load("shared 90%", 10, 1, shared_prefix, quick=True),
    Load("shared 90%, 2", 10, 2, shared_prefix),
    Load("groups of 8", 3, 1, groups_of_eight),
    Load("groups of 8, 2", 3, 2, groups_of_eight, quick=True),
    Load("burst", 3, 1, start="fresh"),
    Load("burst, 4", 3, 4, start="fresh"),
    Load("routing", 5, 1, trace="routing", quick=True),
    Load("science", 5, 1, trace="science"),
)


def trace_of(load: Load, about: Trace) -> Trace:
    """The load's programs."""
    trace = load_trace(find_trace(load.trace)) if load.trace else about
    if load.change is as_it_is:
        return trace
    dice = random.Random(load.name)  # noqa: S311 - a workload, no secret
    return make_trace(load.name, [load.change(p, dice, n) for n, p in enumerate(trace.programs)])


def saturation(trace: Trace, worker: SimWorker) -> float:
    """Agents whose contexts fill a worker: its capacity ÷ the mean context over all calls of the trace."""
    lengths = [
        min(program.prompt_at(n) + step.output, program.context_limit or worker.kv_tokens)
        for program in trace.programs
        for n, step in enumerate(program.steps)
    ]
    return worker.kv_tokens / (sum(lengths) / len(lengths))


@dataclass(frozen=True, slots=True)
class Trial:
    """One simulation: everything that it depends on. Travels to other processes."""

    load: Load
    policy: str
    """As :func:`policy_for` reads it."""
    seed: int
    duration_s: float
    trace: Trace
    """The one that the experiment is about."""
    worker: SimWorker


def run_trial(trial: Trial) -> Outcome:
    """Simulate it."""
    began = time.process_time()
    load = trial.load
    trace = trace_of(load, trial.trace)
    agents = max(1, round(load.overload * load.workers * saturation(trace, trial.worker)))

    def work() -> Work:
        return Work(trace, agents, start=load.start, seed=trial.seed)

    policy = policy_for(trial.policy, work())
    result = simulate(
        work(), (trial.worker,) * load.workers, policy, agents=agents, duration_s=trial.duration_s, sample_s=30.0
    )
    result.manifest["window"] = [0.0, trial.duration_s]
    summary = summarise(result)
    return Outcome(
        load=load.name,
        policy=trial.policy,
        seed=trial.seed,
        agents=agents,
        steps_per_min=summary["throughput"]["steps_per_min"],
        hit_rate=summary["hit_rate"],
        pauses=summary["scheduler"]["pauses"],
        cpu_s=time.process_time() - began,
    )


def run_trials(trials: Sequence[Trial], jobs: int) -> Iterator[Outcome]:
    """Every trial in its order; ``jobs`` of them at once, each in a process of its own if more than one."""
    if jobs == 1:
        yield from map(run_trial, trials)
        return
    with ProcessPoolExecutor(min(jobs, len(trials)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_trial, trials)
