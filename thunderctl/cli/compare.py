"""``compare``: the same work under several policies or profiles, fresh workers for each, repeats interleaved.

With ``--runs`` nothing is run: stored runs are set beside each other, under the same conditions.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from thunderctl import launcher, paths
from thunderctl.cli import complete
from thunderctl.cli.asked import (
    Arrival,
    Asked,
    Corpus,
    Duration,
    Judge,
    Live,
    MaxDuration,
    MaxErrors,
    MaxSteps,
    Part,
    Pattern,
    Programs,
    Ramp,
    Seed,
    Shuffle,
    StartAt,
    Tasks,
    ToolLatency,
    TraceName,
    WarmUp,
    make_plan,
)
from thunderctl.cli.dataset import Dataset, Strict
from thunderctl.cli.progress import ProgressMode, Shown
from thunderctl.cli.run import execute
from thunderctl.cli.show import AsJson, Overrides, err, out, print_json, ticker
from thunderctl.core.policies import POLICIES
from thunderctl.errors import BelowLimit, ExitCode, UsageError
from thunderctl.profile_files import ResolvedProfile, load_profile
from thunderctl.report import compare_page
from thunderctl.report.compare import REPEATS, Arms, Limit, arms_of
from thunderctl.report.compare import compare as compare_arms
from thunderctl.report.compare_table import compare_table
from thunderctl.report.stats import summarise
from thunderctl.runs.driver import Plan
from thunderctl.runs.on_a_node import bring_up_for
from thunderctl.runs.store import find_run, write_whole

MOST_AGENTS = 4096


def compare(
    workload: Annotated[
        str | None,
        typer.Argument(
            help="Bundled workload (swebench), a folder of your own, or trace (with --trace).",
            autocompletion=complete.workloads,
        ),
    ] = None,
    arms: Annotated[
        str, typer.Option("--arms", help="Policies or profiles, separated by commas; the first is the base.")
    ] = ("baseline,thunder"),
    agents: Annotated[
        str | None,
        typer.Option("--agents", "-n", help="How many agents run at once; several numbers with commas are a sweep."),
    ] = None,
    profile: Annotated[
        str,
        typer.Option(
            "--profile", "-p", help="Profile of the arms that name a policy.", autocompletion=complete.profiles
        ),
    ] = "laptop-pressure",
    repeats: Annotated[int, typer.Option("--repeats", "-r", min=1, max=100, help="Runs of each arm, interleaved.")] = 1,
    fail_below: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-below", metavar="ARM/BASE=RATIO", help="Exit with 5 if ARM's steps/min are below RATIO × BASE's."
        ),
    ] = None,
    runs: Annotated[
        list[str] | None,
        typer.Option("--runs", metavar="[ARM=]RUN,…", help="Compare stored runs, sorted by policy or named arms."),
    ] = None,
    overrides: Overrides = None,
    live: Live = False,
    dataset: Dataset = None,
    strict: Strict = False,
    task: Tasks = None,
    max_steps: MaxSteps = None,
    judge: Judge = True,
    trace: TraceName = None,
    programs: Programs = None,
    duration: Duration = None,
    start: StartAt = None,
    seed: Seed = None,
    ramp: Ramp = None,
    arrival: Arrival = None,
    max_duration: MaxDuration = None,
    warmup: WarmUp = None,
    part: Part = None,
    pattern: Pattern = None,
    shuffle: Shuffle = False,
    max_error_rate: MaxErrors = None,
    tool_latency: ToolLatency = None,
    corpus: Corpus = None,
    progress: Shown = ProgressMode.auto,
    as_json: AsJson = False,
) -> None:
    """Measure arms against each other: same work, same agents, fresh workers each time.

    Writes compare.json and report.html. Arms that did different work are refused, and a load too small to tell
    policies apart is said to be.

    Examples:

        thunderctl compare swebench --arms baseline,thunder --agents 24 --profile laptop-pressure --repeats 3
        thunderctl compare trace --trace coding --agents 24,48,72,96 -p emulated-h100x8-glm46 --duration 600
        thunderctl compare swebench --agents 24 --repeats 3 --fail-below thunder/baseline=1.2
        thunderctl compare --runs baseline=RUN,RUN,RUN --runs thunder=RUN,RUN,RUN
    """
    if runs:
        if workload is not None:
            raise UsageError("--runs compares what was run already: leave the workload out")
        loads = _stored(runs)
        limits = _limits(fail_below, loads[0], len(next(iter(loads[0].values()))))
        _finish(compare_arms(loads), limits, as_json)
        return
    if workload is None:
        raise UsageError("say what is to be run, or with --runs what was", hint="thunderctl compare swebench")
    chosen = {name: _arm(name, profile, overrides or []) for name in map(str.strip, arms.split(",")) if name}
    if len(chosen) < 2:
        raise UsageError("--arms wants at least two different names", hint=f"policies: {', '.join(POLICIES)}")
    limits = _limits(fail_below, chosen, repeats)
    plans = [
        {
            name: make_plan(
                Asked(
                    workload=workload, agents=number, live=live, dataset=dataset, strict=strict, only=task, judge=judge,
                    max_steps=max_steps, trace=trace, programs=programs, duration_s=duration, start=start, seed=seed,
                    ramp_s=ramp, arrival=arrival, max_duration_s=max_duration, warmup=warmup, part=part,
                    pattern=pattern, shuffle=shuffle, max_error_rate=max_error_rate, tool_latency=tool_latency,
                    corpus=corpus,
                ),
                resolved,
            )
            for name, resolved in chosen.items()
        }
        for number in _numbers(agents)
    ]  # fmt: skip
    if any(len({plan.agents for plan in load.values()}) > 1 for load in plans):
        raise UsageError("the arms' profiles run different numbers of agents", hint="say --agents N")
    if launcher.current() is not None:
        err.print("[yellow]a node is up on this machine: it shares the machine with what is measured here[/]")
    _finish(compare_arms([_measure(load, chosen, repeats) for load in plans]), limits, as_json)


# ------------------------------------------------------------------ what is asked for


def _arm(name: str, profile: str, overrides: list[str]) -> ResolvedProfile:
    """A policy on the common profile, or a profile of its own."""
    if name in POLICIES:
        return load_profile(profile, [*overrides, f"scheduler.policy={name}"])
    return load_profile(name, overrides)


def _numbers(agents: str | None) -> list[int | None]:
    """The loads; a single ``None`` where the profile says how many agents."""
    if agents is None:
        return [None]
    found: set[int] = set()
    for part in agents.split(","):
        if not part.strip().isdecimal() or not 1 <= int(part) <= MOST_AGENTS:
            raise UsageError(f"--agents wants numbers from 1 to {MOST_AGENTS:,} with commas between, not {part!r}")
        found.add(int(part))
    return [*sorted(found)]


def _limits(said: list[str] | None, arms: Any, repeats: int) -> list[Limit]:
    limits = [Limit.parse(text, arms) for text in said or ()]
    if limits and repeats < REPEATS:
        raise UsageError(
            f"too few repeats for --fail-below: {repeats} of each arm, and fewer than {REPEATS} decide nothing",
            hint=f"--repeats {REPEATS}",
        )
    return limits


def _stored(runs: list[str]) -> list[Arms]:
    """The arms of ``[ARM=]RUN,RUN…`` at each number of agents."""
    summaries: dict[str, dict[str, Any]] = {}
    named: dict[str, list[str]] = {}
    for text in runs:
        arm, equals, listed = text.rpartition("=")
        for name in filter(None, map(str.strip, listed.split(","))):
            run = find_run(name)
            if run.id in summaries:
                raise UsageError(f"--runs names {run.id} twice")
            summaries[run.id] = summarise(run)
            if equals:
                named.setdefault(arm, []).append(run.id)
    return arms_of(list(summaries.values()), named)


# ------------------------------------------------------------------ running it, and saying what came of it


def _measure(plans: Mapping[str, Plan], chosen: dict[str, ResolvedProfile], repeats: int) -> Arms:
    """One load: every arm once, then every arm again."""
    summaries: Arms = {name: [] for name in chosen}
    try:
        for repeat in range(repeats):
            for name, resolved in chosen.items():
                told = f"[bold]{name}[/], {plans[name].agents} agents, repeat {repeat + 1} of {repeats}"
                err.print(told, highlight=False)
                summaries[name].append(_one(plans[name], resolved))
    except KeyboardInterrupt:
        err.print("interrupted: the runs that ended are stored; `thunderctl compare --runs …` takes them")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    return summaries


def _one(plan: Plan, resolved: ResolvedProfile) -> dict[str, Any]:
    """One run on a node of its own, which is gone afterwards."""
    node = f"compare-{secrets.token_hex(4)}"
    try:
        with ticker() as tell:
            handle = bring_up_for(plan, resolved, tell, name=node, ends_with_me=True)
        _store, summary = execute(plan, resolved, handle)
    finally:
        with ticker() as tell:
            launcher.take_down(node, progress=tell)
        launcher.forget(node)
    return summary


def _finish(result: dict[str, Any], limits: list[Limit], as_json: bool) -> None:
    """Store the comparison, print it, and fail if it is not good enough."""
    folder = paths.home() / "comparisons" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    write_whole(folder / "compare.json", json.dumps(result, indent=1) + "\n")
    write_whole(folder / "report.html", compare_page.page(result))
    if as_json:
        print_json({**result, "folder": str(folder)})
    else:
        out.print(compare_table(result))
        told = f"\nwritten to {folder / 'report.html'} and compare.json"
        out.print(told, soft_wrap=True, highlight=False, markup=False)
    failed = [reason for reason in (limit.judge(result) for limit in limits) if reason]
    if failed:
        raise BelowLimit("the comparison is not good enough", details=failed)
