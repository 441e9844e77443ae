"""``thunderctl bench rollouts``: what policies are worth where agents work in groups, on several workers.

Simulated unless ``--emulated`` asks for real engines with emulated arithmetic. Every arm has the same groups in the
same order, and workers of its own.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer

from thunderctl import launcher, paths
from thunderctl.cli import complete
from thunderctl.cli.run import execute
from thunderctl.cli.show import AsJson, err, out, print_json, ticker
from thunderctl.cli.simulate import Jobs, Seed, TraceName
from thunderctl.cli.simulated import parse_policy, policy_for, worker_of
from thunderctl.errors import UsageError
from thunderctl.profile_files import ResolvedProfile, load_profile
from thunderctl.report.blocking import blocking
from thunderctl.report.rollout_bench import Measured, Outcome, page, table
from thunderctl.report.stats import RunRecords, last_words, summarise, window_of
from thunderctl.report.sweep import memory_of
from thunderctl.runs.on_a_node import bring_up_for
from thunderctl.runs.store import write_whole
from thunderctl.runs.trace import TracePlan
from thunderctl.sim.driver import simulate
from thunderctl.sim.worker import SimWorker
from thunderctl.traces.groups import SAMPLES, grouped
from thunderctl.traces.load import find_trace, load_trace, write_trace
from thunderctl.traces.trace import Start, Trace, Work

LOADS = {"light": 1.0, "heavy": 3.0}
"""How many times as long contexts are as recorded."""
ARMS = "baseline,baseline:route=least-loaded,paper,thunder:stragglers=0,thunder"
EMULATED_ARMS = "baseline,baseline:route=least-loaded,paper,thunder"
GROUPS = 36
"""Of a batch."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement: everything that it depends on. Travels to other processes."""

    load: str
    arm: str
    seed: int
    trace: Trace
    """In groups."""
    agents: int
    duration_s: float | None
    """Of a stretch; ``None``: a batch of ``programs``."""
    programs: int | None
    workers: tuple[SimWorker, ...] = ()

    @property
    def measured(self) -> str:
        return "batch" if self.duration_s is None else "stretch"

    @property
    def start(self) -> Start:
        return "fresh" if self.duration_s is None else "steady"

    def work(self) -> Work:
        return Work(self.trace, self.agents, programs=self.programs, start=self.start, seed=self.seed)


def rollouts(
    trace: TraceName = "coding",
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="Profile of the workers.", autocompletion=complete.profiles)
    ] = "emulated-2x8h100-glm46",
    agents: Annotated[int, typer.Option("--agents", "-n", min=1, max=100_000, help="Agents at once.")] = 144,
    samples: Annotated[int, typer.Option("--samples-per-task", min=2, max=1000, help="Size of a group.")] = SAMPLES,
    loads: Annotated[str, typer.Option("--loads", help="light, heavy (contexts three times as long).")] = "light,heavy",
    arms: Annotated[
        str | None, typer.Option("--arms", help=f"Policies; the first is the base. [default: {ARMS}]")
    ] = None,
    duration: Annotated[float, typer.Option("--duration", min=1, help="Seconds of a stretch.")] = 600.0,
    groups: Annotated[
        int, typer.Option("--groups", min=0, help="Groups of a batch, simulated only; 0: no batch.")
    ] = GROUPS,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=100, help="Repeats, each with other groups.")] = 1,
    seed: Seed = 0,
    emulated: Annotated[
        bool, typer.Option("--emulated", help="On real engines with emulated arithmetic: stretches only.")
    ] = False,
    jobs: Jobs = 1,
    to: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the results; made if missing.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure policies where agents work in groups: throughput, imbalance of the workers, blocking of groups.

    A stretch of minutes from the midst of everybody's work tells throughput and imbalance, a batch from its first step
    to its last how long groups were blocked. Writes rollouts.json and report.html.

    \b
    Examples:
      thunderctl bench rollouts --seeds 3 --jobs 4
      thunderctl bench rollouts --trace mine.jsonl --loads heavy --arms paper,thunder --groups 72
      thunderctl bench rollouts --emulated --duration 600
    """
    chosen = list(dict.fromkeys(name.strip() for name in loads.split(",")))
    if unknown := [name for name in chosen if name not in LOADS]:
        raise UsageError(f"there is no load {unknown[0]!r}", hint=f"loads: {', '.join(LOADS)}")
    names = list(dict.fromkeys(name.strip() for name in (arms or (EMULATED_ARMS if emulated else ARMS)).split(",")))
    for name in names:
        parse_policy(name)
    resolved = load_profile(profile, [])
    about = load_trace(find_trace(trace))
    limit = resolved.profile.model.max_model_len
    traces = {
        load: grouped(about, samples=samples, longer=LOADS[load], limit=limit)
        for load in chosen
    }  # fmt: skip
    folder = to or paths.home() / "benches" / f"{time.strftime('%Y%m%d-%H%M%S')}-rollouts-{secrets.token_hex(2)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}") from None
    kinds: list[tuple[float | None, int | None]] = [(duration, None)]
    if groups and not emulated:
        kinds.append((None, groups * samples))
    workers: tuple[SimWorker, ...] = ()
    if not emulated:
        workers = (worker_of(resolved.profile, None, None)[0],) * resolved.profile.workers.count
    trials = [
        Trial(load, arm, number, traces[load], agents, lasts, programs, workers)
        for lasts, programs in kinds
        for load in chosen
        for number in range(seed, seed + seeds)
        for arm in names
    ]
    found = Measured(
        emulated=emulated,
        profile=resolved.profile.name,
        trace=about.name,
        digest=about.digest,
        agents=agents,
        samples=samples,
        workers=resolved.profile.workers.count,
        outcomes=tuple(_emulate(trials, profile, folder) if emulated else _simulate(trials, jobs)),
    )
    write_whole(folder / "rollouts.json", json.dumps(found.as_dict(), indent=1) + "\n")
    write_whole(folder / "report.html", page(found))
    if as_json:
        print_json({**found.as_dict(), "folder": str(folder)})
        return
    out.print(table(found))
    out.print(f"\nwritten to {folder / 'report.html'} and rollouts.json", soft_wrap=True, highlight=False, markup=False)


# ------------------------------------------------------------------ simulated


def _simulate(trials: Sequence[Trial], jobs: int) -> Iterator[Outcome]:
    with ticker() as tell:
        for number, outcome in enumerate(_outcomes(trials, jobs), 1):
            tell(f"simulated {number} of {len(trials)}: {outcome.arm} under the {outcome.load} load")
            yield outcome


def _outcomes(trials: Sequence[Trial], jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        yield from map(simulate_trial, trials)
        return
    # A fresh interpreter each: the terminal's live line has a thread, and threads do not survive a fork.
    with ProcessPoolExecutor(min(jobs, len(trials)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(simulate_trial, trials)


def simulate_trial(trial: Trial) -> Outcome:
    """Carry it out in virtual time."""
    policy = policy_for(trial.arm, trial.work())
    result = simulate(trial.work(), trial.workers, policy, agents=trial.agents, duration_s=trial.duration_s)
    if trial.duration_s is not None:
        result.manifest["window"] = [0.0, trial.duration_s]
    return outcome_of(trial, result, summarise(result))


# ------------------------------------------------------------------ emulated


def _emulate(trials: Sequence[Trial], profile: str, folder: Path) -> Iterator[Outcome]:
    """One arm after the other, each on a node of its own."""
    if launcher.current() is not None:
        err.print("[yellow]a node is up on this machine: it shares the machine with what is measured here[/]")
    for number, trial in enumerate(trials, 1):
        told = f"[bold]{trial.arm}[/] under the {trial.load} load, {number} of {len(trials)}"
        err.print(told, highlight=False)
        file = folder / f"groups-{trial.load}.jsonl"
        write_trace(file, trial.trace)
        resolved = load_profile(profile, overrides_of(trial.arm))
        if resolved.profile.engine.kind != "emulated":
            raise UsageError(f"profile {profile} runs a real engine", hint="choose one of those named emulated-…")
        plan = TracePlan(
            trace=trial.trace,
            source=str(file.resolve()),
            agents=trial.agents,
            max_error_share=resolved.profile.runs.max_error_share,
            duration_s=trial.duration_s,
            start=trial.start,
            seed=trial.seed,
        )
        yield _on_a_node(trial, plan, resolved)


def overrides_of(arm: str) -> list[str]:
    """A policy with its options, as ``-c`` says it."""
    name, *options = arm.split(":")
    said = [f"scheduler.policy={name}"]
    for option in options:
        key, _, value = option.partition("=")
        said.append(f"scheduler.options.{key}={value}")
    return said


def _on_a_node(trial: Trial, plan: TracePlan, resolved: ResolvedProfile) -> Outcome:
    node = f"bench-{secrets.token_hex(4)}"
    tell: Callable[[str], None]
    try:
        with ticker() as tell:
            handle = bring_up_for(plan, resolved, tell, name=node, ends_with_me=True)
        run, summary = execute(plan, resolved, handle)
    except KeyboardInterrupt:
        err.print("interrupted: nothing is written; the runs that ended are stored")
        raise
    finally:
        with ticker() as tell:
            launcher.take_down(node, progress=tell)
        launcher.forget(node)
    return outcome_of(trial, run, summary)


# ------------------------------------------------------------------ what came of it


def outcome_of(trial: Trial, run: RunRecords, summary: dict[str, Any]) -> Outcome:
    """The figures of one measurement."""
    began, ended = window_of(run)
    records = last_words(run.lines("rollouts"))
    # An agent's record does not say which round of the trace its group was taken in: the same work, taken again, does.
    names = {str(record["program"]).rpartition("/")[2] for record in records}
    group_of: dict[str, str | None] = {}
    work = trial.work()
    while names - group_of.keys() and (taken := work.take()) is not None:
        group_of[taken.id] = taken.program.group
    told = [{**record, "group": group_of[str(record["program"]).rpartition("/")[2]]} for record in records]
    samples = list(run.lines("samples"))
    return Outcome(
        load=trial.load,
        arm=trial.arm,
        measured=trial.measured,
        seed=trial.seed,
        seconds=ended - began,
        steps=summary["throughput"]["steps"],
        hit_rate=summary["hit_rate"],
        output_tokens_per_s=summary["throughput"]["output_tokens_per_s"],
        imbalance=summary["imbalance"]["mean"],
        imbalance_max=summary["imbalance"]["max"],
        pauses=summary["scheduler"]["pauses"],
        held_max_s=summary["held_s"]["max"],
        failed=summary["agents"]["by_status"].get("failed", 0),
        blocking=blocking(told, ended),
        memory=memory_of(samples),
        host_lag=summary.get("host_lag"),
        run=None if run.id == "simulation" else run.id,
    )
