"""``run``: drive a workload's agents through a node, store the run, print the report."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from thunderctl import launcher
from thunderctl.cli import complete
from thunderctl.cli.asked import (
    Agents,
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
    Start,
    StartAt,
    Tasks,
    ToolLatency,
    TraceName,
    WarmUp,
    WorkloadName,
    make_plan,
)
from thunderctl.cli.dataset import Dataset, Strict
from thunderctl.cli.evaluate import evaluate_stored
from thunderctl.cli.live import watch
from thunderctl.cli.progress import ProgressMode, Shown
from thunderctl.cli.show import AsJson, Overrides, err, out, print_json, ticker
from thunderctl.errors import ExitCode, UsageError
from thunderctl.launcher import DEFAULT_NODE, NodeHandle
from thunderctl.profile_files import ResolvedProfile
from thunderctl.report import tables
from thunderctl.report.run_page import write_page
from thunderctl.report.stats import summarise
from thunderctl.runs import resume as resuming
from thunderctl.runs.begin import begin_run, identity
from thunderctl.runs.driver import DRAIN_S, Driver, Plan
from thunderctl.runs.evaluate import find_harness
from thunderctl.runs.on_a_node import bring_up_for, node_that_lasts, profile_of_run, profile_to_use
from thunderctl.runs.resume import AT_FIRST, Earlier
from thunderctl.runs.store import RunFolder, find_run, new_run_id

__all__ = [
    "Agents", "Arrival", "Asked", "Dataset", "Duration", "Judge", "Live", "MaxDuration", "MaxErrors", "MaxSteps",
    "Part", "Pattern", "Programs", "Ramp", "Seed", "Shuffle", "Start", "StartAt", "Tasks", "TraceName", "WarmUp",
    "WorkloadName", "execute", "make_plan", "run",
]  # fmt: skip


class Abandoned(KeyboardInterrupt):
    """Interrupted twice: nothing more is waited for."""


def run(
    workload: Annotated[
        str | None,
        typer.Argument(
            help="Bundled workload (swebench), a folder of your own, or trace (with --trace).",
            autocompletion=complete.workloads,
        ),
    ] = None,
    agents: Agents = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", "-p", help="Profile; without it what is up, or laptop.", autocompletion=complete.profiles
        ),
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
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Go on with this run: what is missing or failed.")
    ] = None,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="With --dataset: have the patches judged by swebench afterwards.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the node up if this command started it.")] = False,
    progress: Shown = ProgressMode.auto,
    as_json: AsJson = False,
) -> None:
    """Run agents over a workload and print what happened. Brings a node up if none is, and down again afterwards.

    Ctrl-C (or SIGTERM) ends the run in order: what is running gets a few seconds, and what was done is stored, not
    judged; `--resume` goes on with it. A second Ctrl-C leaves at once.

    Examples:

        thunderctl run swebench --agents 8
        thunderctl run swebench --agents 24 --profile laptop-pressure -c scheduler.policy=paper
        thunderctl run swebench --agents 32 --tasks 200 --ramp 60 --warmup 10% --max-error-rate 0.05
        thunderctl run swebench --arrival poisson:12 --agents 64 --duration 1800 --seed 7
        thunderctl run swebench --live --profile gpu-1 --dataset swe-bench-lite.jsonl --slice 0:50 --keep
        thunderctl run trace --trace coding --agents 96 --profile emulated-h100x8-glm46 --duration 600 --start steady
        thunderctl run --resume 20260301-101500-swebench-1a2b
    """
    with ticker() as tell:
        up_already = node_that_lasts(tell)
    folder: tuple[RunFolder, Earlier] | None = None
    if resume is not None:
        given = {
            "WORKLOAD": workload, "--agents": agents, "--live": live, "--dataset": dataset,
            "--strict": strict, "--task": task,
            "--max-steps": max_steps, "--no-judge": not judge, "--trace": trace, "--tasks": programs,
            "--duration": duration, "--start": start, "--seed": seed is not None, "--ramp": ramp, "--arrival": arrival,
            "--max-duration": max_duration, "--warmup": warmup, "--slice": part, "--filter": pattern,
            "--shuffle": shuffle, "--max-error-rate": max_error_rate is not None, "--tool-latency": tool_latency,
            "--corpus": corpus,
        }  # fmt: skip
        asked, resolved, plan, folder = _plan_again(resume, profile, overrides, up_already, given)
    else:
        if workload is None:
            raise UsageError("run wants a workload", hint="thunderctl run swebench --agents 8")
        asked = Asked(
            workload, agents, live, dataset, task, judge, max_steps, trace, programs, duration, start, seed,
            ramp, arrival, max_duration, warmup, part, pattern, shuffle, max_error_rate, strict, tool_latency, corpus,
        )  # fmt: skip
        resolved = profile_to_use(profile, overrides, up_already)
        plan = make_plan(asked, resolved)
    if evaluate:
        if asked.dataset is None:
            raise UsageError("--evaluate is for the rows of --dataset: bundled tasks have tests of their own")
        find_harness(Path(sys.executable))
    store, summary = carry_out(plan, resolved, up_already, keep=keep, more={"asked": asked.as_dict()}, resumed=folder)
    if evaluate:
        evaluate_stored(store)
        summary = store.read("summary.json")
    if as_json:
        print_json({**summary, "folder": str(store.folder)})
        return
    out.print(tables.run_table(summary))
    out.print(f"\nstored in {store.folder}", soft_wrap=True, highlight=False)


def carry_out(
    plan: Plan,
    resolved: ResolvedProfile,
    up_already: NodeHandle | None,
    *,
    keep: bool,
    more: Mapping[str, Any],
    resumed: tuple[RunFolder, Earlier] | None,
) -> tuple[RunFolder, dict[str, Any]]:
    """Execute the plan on the node that is up, or on one that comes for it and, unless it is to ``keep``, goes.

    ``typer.Exit`` if the run was interrupted. What else is said here is said in :func:`execute`.
    """
    ours = up_already is None and not keep
    waits = True
    try:
        with _sigterm_is_ctrl_c():
            with ticker() as tell:
                handle = bring_up_for(plan, resolved, tell, name=DEFAULT_NODE, ends_with_me=ours)
            notice = (launcher.health_of(handle.record) or {}).get("environments", {}).get("notice")
            if notice:
                err.print(f"[yellow]{notice}[/]")
            return execute(plan, resolved, handle, more=more, resumed=resumed)
    except Abandoned:
        waits = False
        if ours:
            err.print("left at once: the node that this command started takes itself down now")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except KeyboardInterrupt:
        err.print("interrupted: what was done so far is stored; taking down what was started")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    finally:
        if ours and waits:
            with ticker() as tell:
                launcher.take_down(DEFAULT_NODE, progress=tell)


@contextmanager
def _sigterm_is_ctrl_c() -> Iterator[None]:
    """So that whoever ends this command with SIGTERM finds nothing left behind either."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _plan_again(
    run_id: str,
    profile: str | None,
    overrides: list[str] | None,
    up_already: NodeHandle | None,
    given: Mapping[str, object],
) -> tuple[Asked, ResolvedProfile, Plan, tuple[RunFolder, Earlier]]:
    """The plan of a stored run, if it can be made again just as it was."""
    for option, value in given.items():
        if value:
            raise UsageError(f"--resume goes on with the run as it was asked for: leave {option} out")
    store = find_run(run_id)
    said = store.read("manifest.json")
    if "rollout" in said:
        raise UsageError(
            f"run {store.id} is that of a roll-out", hint="thunderctl rollout run --resume DIR, its --out folder"
        )
    if "asked" not in said:
        raise UsageError(f"run {store.id} was stored by an older thunderctl, or by compare: it cannot be resumed")
    asked = Asked.from_dict(said["asked"])
    resolved = profile_of_run(store, profile, overrides, up_already)
    earlier = resuming.look_back(store)
    resuming.refuse_if_nothing_is_left(said, earlier, store.id)
    plan = make_plan(asked, resolved)
    resuming.refuse_another_plan(said, identity(plan), store.id)
    return asked, resolved, plan, (store, earlier)


def execute(
    plan: Plan,
    resolved: ResolvedProfile,
    handle: NodeHandle,
    *,
    more: Mapping[str, Any] | None = None,
    resumed: tuple[RunFolder, Earlier] | None = None,
) -> tuple[RunFolder, dict[str, Any]]:
    """Drive the plan on a node that is up; store and summarise it, also when it was cut short.

    ``more``: what ``--resume`` needs to make the plan again, for the manifest. ``resumed``: the folder to go on in.
    ``KeyboardInterrupt`` if the run was told to end; ``Abandoned`` if it was told twice.
    """
    store, earlier = resumed or (RunFolder.create(new_run_id(plan.name)), AT_FIRST)
    with resuming.only_driver(store):
        if resumed is not None:
            resuming.make_ready(store, earlier)
        interrupted, abandoned = True, False
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                interrupted = runner.run(_drive(plan, resolved, handle, store, earlier, more))
        except asyncio.CancelledError:
            abandoned = True
            raise Abandoned from None
        finally:
            store.close()
            if not abandoned:  # `thunderctl report` makes them later
                summary = summarise(store)
                store.write("summary.json", summary)
                write_page(store, summary)
        if interrupted:
            raise KeyboardInterrupt
    return store, summary


async def _drive(
    plan: Plan,
    resolved: ResolvedProfile,
    handle: NodeHandle,
    store: RunFolder,
    earlier: Earlier,
    more: Mapping[str, Any] | None,
) -> bool:
    """Whether the run was told to end before its work was done."""
    async with handle.client() as client:
        driver = await begin_run(plan, resolved, client, store, earlier=earlier, more=more)
        drawing = asyncio.create_task(watch(driver.progress))
        try:
            with _ended_by_signals(driver):
                await driver.drive()
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)
        return driver.interrupted


@contextmanager
def _ended_by_signals(driver: Driver) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) drains the run, the second leaves it."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def told() -> None:
        if driver.interrupted and task is not None:
            task.cancel()
            return
        err.print(f"ending: what runs has {DRAIN_S:g} s to finish; once more leaves at once", highlight=False)
        driver.drain()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
