"""The policies' experiment: which loads there are, and how one policy is simulated under one load.

Every load is made from a trace by a rule that stands in ``LOADS``. Commands choose and print; ``report/experiment.py``
counts.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate
from multiprocessing import get_context

from thunderctl.cli.simulated import policy_for
from thunderctl.report.experiment import Outcome
from thunderctl.report.stats import summarise
from thunderctl.sim.driver import simulate
from thunderctl.sim.result import SimResult
from thunderctl.sim.worker import SimWorker
from thunderctl.traces.load import find_trace, load_trace, make_trace
from thunderctl.traces.trace import Start, Trace, TraceProgram, Work

Change = Callable[[TraceProgram, random.Random, int], TraceProgram]
SHARED_TOKENS = 16_000
NEWCOMERS = (1_400, 8_000)
"""Tokens of the first prompts of ``newcomers``, at least and at most."""
AT_ONCE = 4
"""Calls that a step of the parallel loads makes."""


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


def shared_half(program: TraceProgram, _dice: random.Random, _number: int) -> TraceProgram:
    """16,000 leading tokens in common, and as many of its own in the mean."""
    return replace(program, first_prompt=SHARED_TOKENS + program.first_prompt, shared_prefix=SHARED_TOKENS)


def best_of_four(program: TraceProgram, _dice: random.Random, _number: int) -> TraceProgram:
    """Each step samples its answer four times and goes on with one of them."""
    return replace(program, samples=AT_ONCE)


def sub_agents(program: TraceProgram, _dice: random.Random, _number: int) -> TraceProgram:
    """Four contexts side by side in each program, a call of each at once."""
    return replace(program, branches=AT_ONCE)


def newcomers(program: TraceProgram, dice: random.Random, _number: int) -> TraceProgram:
    """First prompts of very different length."""
    return replace(program, first_prompt=dice.randint(*NEWCOMERS))


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
    agents: int | None = None
    """So many agents, whatever ``overload`` says."""
    kv_tokens: int | None = None
    """A worker of another size than the profile's."""
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
    Load("shared 50%", 5, 1, shared_half),
    Load("shared 90%", 10, 1, shared_prefix, quick=True),
    Load("shared 90%, 2", 10, 2, shared_prefix),
    Load("best of 4", 3, 1, best_of_four),
    Load("best of 4, 2", 3, 2, best_of_four),
    Load("sub-agents", 3, 1, sub_agents, quick=True),
    Load("sub-agents, 2", 3, 2, sub_agents),
    Load("groups of 8", 3, 1, groups_of_eight),
    Load("groups of 8, 2", 3, 2, groups_of_eight, quick=True),
    Load("burst", 3, 1, start="fresh"),
    Load("burst, 4", 3, 4, start="fresh"),
    Load("newcomers", 3, 1, newcomers, start="fresh", agents=64, kv_tokens=100_000, quick=True),
    Load("routing", 5, 1, trace="routing", quick=True),
    Load("routing, 2", 5, 2, trace="routing"),
    Load("science", 5, 1, trace="science"),
    Load("science, 2", 5, 2, trace="science"),
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
        min(prompt + step.output, program.context_limit or worker.kv_tokens) * program.branches
        + (program.samples - 1) * step.output
        for program in trace.programs
        for prompt, step in zip(_prompts(program), program.steps, strict=True)
    ]
    return worker.kv_tokens / (sum(lengths) / len(lengths))


def _prompts(program: TraceProgram) -> list[int]:
    """Tokens of each call's prompt."""
    added = (step.output + step.observation for step in program.steps[:-1])
    return list(accumulate(added, initial=program.first_prompt))


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
    worker = trial.worker if load.kv_tokens is None else replace(trial.worker, kv_tokens=load.kv_tokens)
    agents = load.agents or max(1, round(load.overload * load.workers * saturation(trace, worker)))

    def work() -> Work:
        return Work(trace, agents, start=load.start, seed=trial.seed)

    policy = policy_for(trial.policy, work())
    result = simulate(
        work(), (worker,) * load.workers, policy, agents=agents, duration_s=trial.duration_s, sample_s=30.0
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
        size_and_wait=_size_and_wait(work(), result, agents, trial.duration_s) if load.start == "fresh" else None,
    )


def _size_and_wait(work: Work, result: SimResult, agents: int, duration_s: float) -> float:
    """Correlation of a program's first prompt with its time to the first answer, over those that began together.

    Whoever had no answer by the end counts with the whole time.
    """
    waited = {s["program"]: s["latency_s"] for s in result.lines("steps") if s["step"] == 1 and s["at"] == 0}
    began = [assignment for _ in range(agents) if (assignment := work.take()) is not None]
    sizes = [a.program.first_prompt for a in began]
    return statistics.correlation(sizes, [waited.get(a.id, duration_s) for a in began])


def run_trials(trials: Sequence[Trial], jobs: int) -> Iterator[Outcome]:
    """Every trial in its order; ``jobs`` of them at once, each in a process of its own if more than one."""
    if jobs == 1:
        yield from map(run_trial, trials)
        return
    with ProcessPoolExecutor(min(jobs, len(trials)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_trial, trials)
