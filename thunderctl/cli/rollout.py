"""``rollout``: a trainer's batches as files: groups of samples with every token as the engine saw it.

The work itself, the node and the live view are those of ``run``; what is different is that agents work in groups.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from thunderctl.cli import complete, rollout_files
from thunderctl.cli.asked import (
    Agents,
    Asked,
    Corpus,
    Judge,
    Live,
    MaxErrors,
    MaxSteps,
    Part,
    Pattern,
    Seed,
    Shuffle,
    Tasks,
    ToolLatency,
    TraceName,
)
from thunderctl.cli.dataset import Dataset, Strict
from thunderctl.cli.progress import ProgressMode, Shown
from thunderctl.cli.run import carry_out
from thunderctl.cli.show import AsJson, Overrides, out, print_json, ticker
from thunderctl.errors import UsageError
from thunderctl.report import tables
from thunderctl.rollouts.asked import RolloutAsked, look_back_at, refuse_if_taken, refuse_other_work, run_of
from thunderctl.rollouts.figures import figures
from thunderctl.runs.on_a_node import node_that_lasts, profile_of_run, profile_to_use
from thunderctl.runs.store import RunFolder

RUN = "run"


class RunByDefault(TyperGroup):
    """Its first word may be what the command ``run`` takes: ``rollout swebench`` is ``rollout run swebench``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [RUN, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        return [*super().shell_complete(ctx, incomplete), *self.commands[RUN].params[0].shell_complete(ctx, incomplete)]


app = typer.Typer(
    name="rollout",
    cls=RunByDefault,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Roll-outs for reinforcement learning: groups of samples, token by token. `thunderctl rollout WORKLOAD` is "
    "short for `thunderctl rollout run WORKLOAD`.",
)


@app.command(RUN)
def run(
    workload: Annotated[
        str | None,
        typer.Argument(
            help="Bundled workload (swebench), a folder of your own, or trace (with --trace).",
            autocompletion=complete.workloads,
        ),
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples-per-task", "-s", help="Samples of each task: a group. Default 8.")
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option("--tasks", help="Groups in all; default one for each task, or for trace as agents make."),
    ] = None,
    agents: Agents = None,
    to: Annotated[
        Path | None, typer.Option("--out", "-o", file_okay=False, help="Folder that complete groups are written to.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="first:K", help="Over-sample: once K samples are done the others are cut off."),
    ] = None,
    group_timeout: Annotated[
        float | None,
        typer.Option(
            "--group-timeout", metavar="S", help="After so many seconds what still runs of a group is cut off."
        ),
    ] = None,
    retries: Annotated[int, typer.Option("--retries", min=0, help="How often a failed sample is begun again.")] = 0,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, help="Of live answers; default 1, so that samples differ.")
    ] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", min=0, max=1, help="Of live answers.")] = None,
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
    seed: Seed = None,
    part: Part = None,
    pattern: Pattern = None,
    shuffle: Shuffle = False,
    max_error_rate: MaxErrors = None,
    tool_latency: ToolLatency = None,
    corpus: Corpus = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="DIR", file_okay=False, help="Go on in this folder: groups that are missing."),
    ] = None,
    keep_node: Annotated[
        bool, typer.Option("--keep-node", help="Leave the node up if this command started it.")
    ] = False,
    progress: Shown = ProgressMode.auto,
    as_json: AsJson = False,
) -> None:
    """Roll groups of samples out and write each as soon as it is complete, as Parquet and as JSON lines.

    Ctrl-C (or SIGTERM) ends it in order: complete groups stay, and `--resume` does those that are missing. The run
    behind it is stored too: `thunderctl report` shows it.

    Examples:

        thunderctl rollout run swebench --samples-per-task 8 --tasks 6 --out groups
        thunderctl rollout run swebench --live -p gpu-1 --agents 144 --keep first:6 --group-timeout 1800 --out groups
        thunderctl rollout run trace --trace coding --agents 144 -p emulated-h100x8-glm46 --out groups
        thunderctl rollout run --resume groups
    """
    with ticker() as tell:
        up_already = node_that_lasts(tell)
    if resume is not None:
        given = {
            "WORKLOAD": workload, "--samples-per-task": samples, "--tasks": tasks, "--agents": agents, "--out": to,
            "--keep": keep, "--group-timeout": group_timeout, "--retries": retries, "--temperature": temperature,
            "--top-p": top_p, "--live": live, "--dataset": dataset, "--strict": strict, "--task": task,
            "--max-steps": max_steps, "--no-judge": not judge, "--trace": trace, "--seed": seed is not None,
            "--slice": part, "--filter": pattern, "--shuffle": shuffle,
            "--max-error-rate": max_error_rate is not None, "--tool-latency": tool_latency, "--corpus": corpus,
        }  # fmt: skip
        for option, value in given.items():
            if value:
                raise UsageError(f"--resume goes on with the roll-out as it was asked for: leave {option} out")
        store = run_of(str(resume))
        asked = RolloutAsked.from_manifest(store.read("manifest.json"))
        earlier = look_back_at(store, str(resume))
        resolved = profile_of_run(store, profile, overrides, up_already)
        plan = asked.plan(resolved, out=str(resume))
        refuse_other_work(store, plan)
        resumed = (store, earlier)
    else:
        if workload is None:
            raise UsageError("rollout wants a workload", hint="thunderctl rollout swebench --out groups")
        if to is None:
            raise UsageError("rollout wants a folder to write groups to: --out DIR")
        refuse_if_taken(str(to))
        asked = RolloutAsked(
            Asked(
                workload=workload, agents=agents, live=live, dataset=dataset, only=task, judge=judge,
                max_steps=max_steps, trace=trace, programs=None, duration_s=None, start=None, seed=seed, part=part,
                pattern=pattern, shuffle=shuffle, max_error_rate=max_error_rate, strict=strict,
                tool_latency=tool_latency, corpus=corpus,
            ),
            tasks=tasks,
            samples_per_task=8 if samples is None else samples,
            keep=keep,
            group_timeout_s=group_timeout,
            retries=retries,
            sampling={
                name: value for name, value in (("temperature", temperature), ("top_p", top_p)) if value is not None
            },
            out=str(to),
        )  # fmt: skip
        resolved = profile_to_use(profile, overrides, up_already)
        plan = asked.plan(resolved)
        resumed = None
    store, summary = carry_out(plan, resolved, up_already, keep=keep_node, more=asked.more(), resumed=resumed)
    came = came_of(store, summary)
    if as_json:
        print_json({**came, "run": summary, "folder": str(store.folder), "out": str(plan.out)})
        return
    out.print(table(came, summary))
    out.print(f"\ngroups in {plan.out}, the run in {store.folder}", soft_wrap=True, highlight=False, markup=False)


def came_of(store: RunFolder, summary: dict[str, Any]) -> dict[str, Any]:
    """The roll-out's own figures, with what has to be known to judge them."""
    words = {
        key: summary[key] for key in ("workload", "kind", "tasks_are", "engine", "time_model", "profile", "policy")
    }
    return {**words, **figures(summary, store.read("manifest.json")["rollout"], store.lines("groups"))}


def table(came: dict[str, Any], summary: dict[str, Any]) -> RenderableType:
    """What a person wants to know of a roll-out."""
    plain, warnings = tables.notes(summary)
    if came["kind"] == "replay":
        plain.append("replay: the samples of a group say the same, so that more than their prompt is in the cache")
    if came["tokens"]["with_logprobs"] < came["tokens"]["model"]:
        plain.append("log-probabilities: none, this engine computes none")
    facts = [Text(tables.title(summary), style="bold"), *(Text(line, style="dim") for line in plain)]
    shown = Table(show_header=False, box=None, pad_edge=False)
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column()
    for label, text in rows(came):
        shown.add_row(Text(label), Text(text))
    return Lines(*facts, *(Text(line, style="yellow") for line in warnings), Text(""), shown)


def rows(came: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and text of each line."""
    groups, samples, rewards, tokens = came["groups"], came["samples"], came["rewards"], came["tokens"]
    blocking, stale, segments = came["blocking_s"], came["staleness"], came["segments"]
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(samples["by_status"].items()))
    breaks = ", ".join(f"{count} {reason}" for reason, count in sorted(segments["breaks"].items()))
    return [
        ("groups", f"{groups['complete']} of {groups['asked']} complete, {groups['timed_out']} timed out"),
        ("samples", f"{samples['kept']} kept ({statuses or 'none'}), {samples['dropped']} dropped"),
        ("failed and begun again", str(samples["replaced"])),
        ("reward", "not judged" if rewards["mean"] is None else
         f"{rewards['mean']:.3f} on average of {rewards['judged']}, {rewards['nothing_to_judge']} without; "
         f"{groups['mixed']} groups with different rewards"),
        ("model tokens", f"{tokens['model']:,} of {tokens['all']:,}, {tokens['model_per_s']:,.1f} a second"),
        ("segments", f"{segments['count']:,}" + (f" (begun anew: {breaks})" if breaks else "")),
        ("steps", f"{came['steps_per_min']:.1f} a minute"),
        ("cache hit rate", tables.percent(came["hit_rate"])),
        ("blocking", "no group" if blocking["mean"] is None else
         f"{tables.seconds(blocking['mean'])} on average, {tables.seconds(blocking['worst'])} at worst"),
        ("staleness", f"{stale['mean']:.2f} versions on average, {stale['worst']} at worst"),
    ]  # fmt: skip


app.command("check")(rollout_files.check_command)
app.command("convert")(rollout_files.convert_command)
app.command("schema")(rollout_files.schema_command)
