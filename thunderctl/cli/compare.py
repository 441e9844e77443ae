"""``compare``: the same work under several policies or profiles, fresh workers for each, repeats interleaved."""

from __future__ import annotations

import json
import secrets
import time
from typing import Annotated, Any

import typer

from thunderctl import launcher, paths
from thunderctl.cli.run import (
    Agents,
    Asked,
    Dataset,
    Duration,
    Judge,
    Live,
    MaxSteps,
    Programs,
    Seed,
    StartAt,
    Tasks,
    TraceName,
    WorkloadName,
    execute,
    make_plan,
)
from thunderctl.cli.show import AsJson, Overrides, err, out, print_json, ticker
from thunderctl.core.policies import POLICIES
from thunderctl.errors import ExitCode, UsageError
from thunderctl.profile_files import ResolvedProfile, load_profile
from thunderctl.report.compare import compare as compare_arms
from thunderctl.report.compare import compare_table
from thunderctl.runs.driver import Plan
from thunderctl.runs.store import write_whole


def compare(
    workload: WorkloadName,
    arms: Annotated[
        str, typer.Option("--arms", help="Policies or profiles, separated by commas; the first is the base.")
    ] = ("baseline,thunder"),
    agents: Agents = None,
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="Profile of the arms that name a policy.")
    ] = "laptop-pressure",
    repeats: Annotated[int, typer.Option("--repeats", "-r", min=1, max=100, help="Runs of each arm, interleaved.")] = 1,
    overrides: Overrides = None,
    live: Live = False,
    dataset: Dataset = None,
    task: Tasks = None,
    max_steps: MaxSteps = None,
    judge: Judge = True,
    trace: TraceName = None,
    programs: Programs = None,
    duration: Duration = None,
    start: StartAt = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Measure arms against each other: same work, same agents, fresh workers each time.

    Examples:

        thunderctl compare swebench --arms baseline,thunder --agents 24 --profile laptop-pressure --repeats 3
        thunderctl compare swebench --arms baseline,paper,thunder --agents 32 --profile gpu-1 --live
        thunderctl compare trace --trace coding --agents 96 -p emulated-h100x8-glm46 --duration 600
    """
    asked = Asked(
        workload, agents, live, dataset, task, judge, max_steps, trace, programs, duration, start, seed
    )  # fmt: skip
    chosen = {name: _arm(name, profile, overrides or []) for name in arms.split(",") if name}
    if len(chosen) < 2:
        raise UsageError("--arms wants at least two different names", hint=f"policies: {', '.join(POLICIES)}")
    plans = {name: make_plan(asked, resolved) for name, resolved in chosen.items()}
    if len({plan.agents for plan in plans.values()}) > 1:
        raise UsageError("the arms' profiles run different numbers of agents", hint="say --agents N")
    if launcher.current() is not None:
        err.print("[yellow]a node is up on this machine: it shares the machine with what is measured here[/]")
    summaries: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    try:
        for repeat in range(repeats):
            for name, resolved in chosen.items():
                err.print(f"[bold]{name}[/], repeat {repeat + 1} of {repeats}", highlight=False)
                summaries[name].append(_one(plans[name], resolved))
    except KeyboardInterrupt:
        err.print("interrupted: the runs that ended are stored")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    result = compare_arms(summaries)
    result["runs"] = {name: [s["run"] for s in found] for name, found in summaries.items()}
    file = paths.home() / "comparisons" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(result, indent=1) + "\n")
    if as_json:
        print_json({**result, "file": str(file)})
        return
    out.print(compare_table(result))
    out.print(f"\nstored in {file}", soft_wrap=True, highlight=False)


def _arm(name: str, profile: str, overrides: list[str]) -> ResolvedProfile:
    """A policy on the common profile, or a profile of its own."""
    name = name.strip()
    if name in POLICIES:
        return load_profile(profile, [*overrides, f"scheduler.policy={name}"])
    return load_profile(name, overrides)


def _one(plan: Plan, resolved: ResolvedProfile) -> dict[str, Any]:
    """One run on a node of its own, which is gone afterwards."""
    node = f"compare-{secrets.token_hex(4)}"
    try:
        with ticker() as tell:
            handle = launcher.bring_up(resolved, name=node, progress=tell, ends_with_me=True)
        _store, summary = execute(plan, resolved, handle)
    finally:
        with ticker() as tell:
            launcher.take_down(node, progress=tell)
        launcher.forget(node)
    return summary
