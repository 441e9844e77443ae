"""``run``: drive a workload's agents through a node, store the run, print the report."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from thunderctl import launcher
from thunderctl.cli.live import watch
from thunderctl.cli.show import AsJson, Overrides, err, out, print_json, ticker
from thunderctl.errors import ExitCode, PreflightError, UsageError, WorkloadError
from thunderctl.launcher import DEFAULT_NODE, NodeHandle
from thunderctl.node import node_dir
from thunderctl.profile import Profile
from thunderctl.profile_files import ResolvedProfile, load_profile
from thunderctl.report import tables
from thunderctl.report.stats import summarise
from thunderctl.runs.driver import Driver, Plan, choose_tasks, manifest, own_argv
from thunderctl.runs.store import RunFolder, new_run_id
from thunderctl.workload import find_workload, load_dataset, load_tasks, load_workload

WorkloadName = Annotated[str, typer.Argument(help="Bundled workload (swebench), or a folder of your own.")]
Agents = Annotated[int | None, typer.Option("--agents", "-n", min=1, max=4096, help="How many agents run at once.")]
Dataset = Annotated[
    Path | None,
    typer.Option("--dataset", help="SWE-bench rows (JSON lines) instead of the bundled tasks; implies --live."),
]
Live = Annotated[bool, typer.Option("--live/--replay", help="Let the model decide, or force the recorded answers.")]
Tasks = Annotated[list[str] | None, typer.Option("--task", help="Only this task; may be repeated.")]
MaxSteps = Annotated[
    int | None, typer.Option("--max-steps", min=1, help="End each agent after so many steps: a shorter run.")
]
Judge = Annotated[bool, typer.Option("--judge/--no-judge", help="Run the tasks' tests on the patches afterwards.")]


def run(
    workload: WorkloadName,
    agents: Agents = None,
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", help="Profile; without it what is up, or laptop.")
    ] = None,
    overrides: Overrides = None,
    live: Live = False,
    dataset: Dataset = None,
    task: Tasks = None,
    max_steps: MaxSteps = None,
    judge: Judge = True,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the node up if this command started it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run agents over a workload and print what happened. Brings a node up if none is, and down again afterwards.

    Examples:

        thunderctl run swebench --agents 8
        thunderctl run swebench --agents 24 --profile laptop-pressure -c scheduler.policy=paper
        thunderctl run swebench --live --profile gpu-1 --dataset swe-bench-lite.jsonl --keep
    """
    up_already = launcher.current()
    resolved = _profile_to_use(profile, overrides, up_already)
    plan = make_plan(workload, resolved, agents, live or dataset is not None, dataset, task, judge, max_steps)
    started_here = up_already is None
    try:
        with ticker() as tell:
            handle = launcher.bring_up(resolved, progress=tell, ends_with_me=started_here and not keep)
        notice = (launcher.health_of(handle.record) or {}).get("environments", {}).get("notice")
        if notice:
            err.print(f"[yellow]{notice}[/]")
        store, summary = execute(plan, resolved, handle)
    except KeyboardInterrupt:
        err.print("interrupted: what was done so far is stored; taking down what was started")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    finally:
        if started_here and not keep:
            with ticker() as tell:
                launcher.take_down(DEFAULT_NODE, progress=tell)
    if as_json:
        print_json({**summary, "folder": str(store.folder)})
        return
    out.print(tables.run_table(summary))
    out.print(f"\nstored in {store.folder}", soft_wrap=True, highlight=False)


def _profile_to_use(profile: str | None, overrides: list[str] | None, up_already: NodeHandle | None) -> ResolvedProfile:
    if profile is None and up_already is not None:
        if overrides:
            raise UsageError("-c changes a profile: say which with --profile", hint="or `thunderctl down` first")
        return load_launched(up_already)
    resolved = load_profile(profile or "laptop", overrides or ())
    if up_already is not None and up_already.record.digest != resolved.profile.digest():
        raise UsageError(
            f"a node is up with another profile ({up_already.record.profile}), and a run does not replace it",
            hint="leave --profile out to use it, or `thunderctl down` first",
        )
    return resolved


def load_launched(handle: NodeHandle) -> ResolvedProfile:
    """The profile that a running node was started with."""
    launch = json.loads((node_dir(handle.name) / "launch.json").read_text())
    return ResolvedProfile(Profile.model_validate(launch["profile"]), launch["sources"], f"node {handle.name}")


def make_plan(
    workload: str,
    resolved: ResolvedProfile,
    agents: int | None,
    live: bool,
    dataset: Path | None,
    only: list[str] | None,
    judge: bool,
    max_steps: int | None,
) -> Plan:
    """Everything about the work that can be wrong is found out here, before anything starts."""
    kind = "live" if live else "replay"
    profile = resolved.profile
    if kind == "replay" and not (profile.workers.replay or profile.engine.kind == "external"):
        raise PreflightError(
            f"profile {profile.name!r} loads no replay processor, so recorded answers cannot be forced",
            hint="add --live, or -c workers.replay=true",
        )
    folder = find_workload(workload)
    tasks = load_dataset(dataset) if dataset else load_tasks(folder)
    if dataset and profile.environments.backend == "local":
        raise WorkloadError("SWE-bench rows live in Docker images; profile key environments.backend is 'local'")
    loaded = load_workload(folder)
    if max_steps is not None:
        loaded = loaded.model_copy(update={"limits": loaded.limits.model_copy(update={"steps": max_steps})})
    return Plan(
        workload=loaded,
        tasks=choose_tasks(tasks, kind, only),
        agents=agents or profile.runs.agents,
        kind=kind,
        judge=judge,
        max_error_share=profile.runs.max_error_share,
        dataset=dataset.name if dataset else None,
    )


def execute(plan: Plan, resolved: ResolvedProfile, handle: NodeHandle) -> tuple[RunFolder, dict[str, Any]]:
    """Drive the plan on a node that is up; store and summarise it, also when it was cut short."""
    store = RunFolder.create(new_run_id(plan.workload.name))
    try:
        asyncio.run(_drive(plan, resolved, handle, store))
    finally:
        store.close()
        summary = summarise(store)
        store.write("summary.json", summary)
        tables.write_page(store, tables.run_table(summary))
    return store, summary


async def _drive(plan: Plan, resolved: ResolvedProfile, handle: NodeHandle, store: RunFolder) -> None:
    async with handle.client() as client:
        health = await client.health()
        store.write("manifest.json", manifest(plan, resolved, health, own_argv()))
        store.write("profile.json", {"profile": resolved.profile.model_dump(mode="json"), "sources": resolved.sources})
        driver = Driver(plan, client, store)
        drawing = asyncio.create_task(watch(driver.progress))
        try:
            await driver.drive()
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)
