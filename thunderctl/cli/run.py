"""``run``: drive a workload's agents through a node, store the run, print the report."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from enum import StrEnum
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
from thunderctl.runs.driver import Driver, Plan, manifest, own_argv
from thunderctl.runs.store import RunFolder, new_run_id
from thunderctl.runs.tasks import TaskPlan, choose_tasks
from thunderctl.runs.trace import TracePlan, longest_call
from thunderctl.traces.load import find_trace, list_traces, load_trace
from thunderctl.workload.load import find_workload, kind_of, load_tasks, load_workload


class Start(StrEnum):
    """Where the agents of a trace begin."""

    fresh = "fresh"
    steady = "steady"


WorkloadName = Annotated[
    str, typer.Argument(help="Bundled workload (swebench), a folder of your own, or trace (with --trace).")
]
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
TraceName = Annotated[
    str | None, typer.Option("--trace", help="For trace: a bundled trace (coding, routing, science), or a file.")
]
Programs = Annotated[
    int | None, typer.Option("--programs", min=1, help="For trace: end after so many programs; else one an agent.")
]
Duration = Annotated[
    float | None, typer.Option("--duration", min=1, help="For trace: end after so many (emulated) seconds.")
]
StartAt = Annotated[
    Start | None,
    typer.Option("--start", help="For trace: agents begin at first steps (fresh, default), or amid programs (steady)."),
]
Seed = Annotated[int | None, typer.Option("--seed", help="For trace: order of the programs; default 0.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line says about the work. Options that were not given are ``None``, empty or false."""

    workload: str
    agents: int | None
    live: bool
    dataset: Path | None
    only: list[str] | None
    judge: bool
    max_steps: int | None
    trace: str | None
    programs: int | None
    duration_s: float | None
    start: Start | None
    seed: int | None


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
    trace: TraceName = None,
    programs: Programs = None,
    duration: Duration = None,
    start: StartAt = None,
    seed: Seed = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the node up if this command started it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run agents over a workload and print what happened. Brings a node up if none is, and down again afterwards.

    Examples:

        thunderctl run swebench --agents 8
        thunderctl run swebench --agents 24 --profile laptop-pressure -c scheduler.policy=paper
        thunderctl run swebench --live --profile gpu-1 --dataset swe-bench-lite.jsonl --keep
        thunderctl run trace --trace coding --agents 96 --profile emulated-h100x8-glm46 --duration 600 --start steady
    """
    asked = Asked(
        workload, agents, live, dataset, task, judge, max_steps, trace, programs, duration, start, seed
    )  # fmt: skip
    up_already = launcher.current()
    resolved = _profile_to_use(profile, overrides, up_already)
    plan = make_plan(asked, resolved)
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


def make_plan(asked: Asked, resolved: ResolvedProfile) -> Plan:
    """Everything about the work that can be wrong is found out here, before anything starts."""
    if asked.workload == "trace":
        _refuse_options(asked.workload, {
            "--live": asked.live, "--dataset": asked.dataset, "--task": asked.only, "--max-steps": asked.max_steps,
        })  # fmt: skip
        return _trace_plan(asked, resolved)
    _refuse_options(asked.workload, {
        "--trace": asked.trace, "--programs": asked.programs, "--duration": asked.duration_s, "--start": asked.start,
        "--seed": asked.seed is not None,
    })  # fmt: skip
    return _task_plan(asked, resolved)


def _refuse_options(workload: str, given: dict[str, object]) -> None:
    """``UsageError`` for the first option that means nothing for this workload."""
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} says nothing about workload {workload!r}")


def _need_replay(resolved: ResolvedProfile, what: str, hint: str) -> None:
    if not resolved.profile.can_replay:
        raise PreflightError(
            f"profile {resolved.profile.name!r} loads no replay processor, so {what} cannot be forced", hint=hint
        )


def _task_plan(asked: Asked, resolved: ResolvedProfile) -> TaskPlan:
    kind = "live" if asked.live or asked.dataset is not None else "replay"
    profile = resolved.profile
    if kind == "replay":
        _need_replay(resolved, "recorded answers", "add --live, or -c workers.replay=true")
    folder = find_workload(asked.workload)
    loaded = load_workload(folder)
    tasks = kind_of(loaded).load_dataset(asked.dataset) if asked.dataset else load_tasks(folder, loaded)
    if asked.dataset and profile.environments.backend == "local":
        raise WorkloadError("SWE-bench rows live in Docker images; profile key environments.backend is 'local'")
    if asked.max_steps is not None:
        limits = loaded.limits.model_copy(update={"steps": asked.max_steps})
        loaded = loaded.model_copy(update={"limits": limits})
    return TaskPlan(
        workload=loaded,
        tasks=choose_tasks(tasks, kind, asked.only),
        agents=asked.agents or profile.runs.agents,
        kind=kind,
        judge=asked.judge,
        max_error_share=profile.runs.max_error_share,
        dataset=asked.dataset.name if asked.dataset else None,
    )


def _trace_plan(asked: Asked, resolved: ResolvedProfile) -> TracePlan:
    profile = resolved.profile
    if asked.trace is None:
        bundled = ", ".join(path.stem for path in list_traces())
        raise UsageError("run trace wants --trace", hint=f"a file, or a bundled one: {bundled}")
    if asked.programs is not None and asked.duration_s is not None:
        raise UsageError("--programs and --duration both say when the run ends: say one of them")
    _need_replay(resolved, "the tokens of a trace", "add -c workers.replay=true")
    file = find_trace(asked.trace)
    trace = load_trace(file)
    longest = profile.model.max_model_len
    too_long = sum(longest_call(program) > longest for program in trace.programs) if longest else 0
    if too_long:
        said = f"{too_long} of {len(trace.programs)} programs are longer than model.max_model_len, {longest:,} tokens"
        if too_long > profile.runs.max_error_share * len(trace.programs):
            raise WorkloadError(f"{file}: {said}", hint=f"profile {profile.name!r} cannot run this trace")
        err.print(f"[yellow]{said}: they will fail[/]", highlight=False, soft_wrap=True)
    return TracePlan(
        trace=trace,
        source=str(file.resolve()),
        agents=asked.agents or profile.runs.agents,
        max_error_share=profile.runs.max_error_share,
        programs=asked.programs,
        duration_s=asked.duration_s,
        start=asked.start.value if asked.start else "fresh",
        seed=asked.seed or 0,
    )


def execute(plan: Plan, resolved: ResolvedProfile, handle: NodeHandle) -> tuple[RunFolder, dict[str, Any]]:
    """Drive the plan on a node that is up; store and summarise it, also when it was cut short."""
    store = RunFolder.create(new_run_id(plan.name))
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
        driver = Driver(plan, client, store, time_scale=health.get("time_scale", 1.0))
        drawing = asyncio.create_task(watch(driver.progress))
        try:
            await driver.drive()
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)
