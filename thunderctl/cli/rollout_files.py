"""``rollout check``, ``rollout convert`` and ``rollout schema``: what is done with a roll-out's folder afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from thunderctl.cli import complete
from thunderctl.cli.show import AsJson, err, out, print_json, say, ticker
from thunderctl.errors import ExitCode, UsageError
from thunderctl.profile import ToolEnvironmentSpec
from thunderctl.rollouts.check import Checked, Judged, check, recompute_rewards
from thunderctl.rollouts.convert import CONVERTERS, reward_of
from thunderctl.rollouts.files import GroupFiles, describe
from thunderctl.runs.rehearsal import a_rehearsal
from thunderctl.runs.store import write_whole
from thunderctl.workload.base import Task, Workload
from thunderctl.workload.load import find_workload, kind_of, load_tasks, load_workload

SHOWN = 20
"""Violations named on the screen; ``--json`` has all."""

Folder = Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="The folder that a roll-out wrote.")]


class Backend(StrEnum):
    """Where judging's tools run."""

    auto = "auto"
    docker = "docker"
    local = "local"


class Trainer(StrEnum):
    """Each a name in ``CONVERTERS``."""

    slime = "slime"
    skyrl = "skyrl"
    verl = "verl"
    trl = "trl"


class Unusable(StrEnum):
    """What becomes of samples that say nothing about the model."""

    drop = "drop"
    mask = "mask"


def check_command(
    folder: Folder,
    rewards: Annotated[
        bool, typer.Option("--rewards", help="Judge each stored submission again too, in a fresh environment.")
    ] = False,
    workload: Annotated[
        str | None,
        typer.Option(
            "--workload", help="With --rewards: where its tasks are, if not bundled.", autocompletion=complete.workloads
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="FILE|NAME", help="With --rewards: the rows that were used.")
    ] = None,
    backend: Annotated[
        Backend, typer.Option("--backend", help="With --rewards: docker, local, or auto: docker if it answers.")
    ] = Backend.auto,
    as_json: AsJson = False,
) -> None:
    """Look at every promise of a roll-out again, from its stored files alone: lengths, masks, prompts that extend what
    was there, versions, log-probabilities, whole groups. Exits with 1 if one does not hold.

    Examples:

        thunderctl rollout check groups
        thunderctl rollout check groups --rewards --backend local
    """
    found = check(folder)
    judged = _judge_again(folder, workload, dataset, backend) if rewards else None
    wrong = [each for each in judged or () if not each.agrees]
    if as_json:
        again = None if judged is None else [{**asdict(each), "agrees": each.agrees} for each in judged]
        print_json({**found.as_dict(), "ok": found.ok and not wrong, "rewards": again})
    else:
        out.print(_table(found, judged))
        for violation in found.violations[:SHOWN]:
            say(str(violation))
        if len(found.violations) > SHOWN:
            say(f"and {len(found.violations) - SHOWN} more: --json has all")
        for each in wrong:
            say(_differs(each))
        holds = found.ok and not wrong
        out.print(f"\n{'[bold green]every promise holds[/]' if holds else '[bold red]not every promise holds[/]'}")
    if not found.ok or wrong:
        raise typer.Exit(ExitCode.FAILED)


def _judge_again(folder: Path, workload: str | None, dataset: str | None, backend: Backend) -> list[Judged]:
    files = GroupFiles(folder)
    where: Literal["auto", "docker", "local"] = backend.value
    said = files.manifest()
    found, tasks = _tasks_of(workload or str(said.get("workload")), dataset or said.get("dataset"))
    settings = ToolEnvironmentSpec(backend=where)

    async def judge() -> list[Judged]:
        with ticker() as tell:
            async with a_rehearsal(settings, tell) as client:
                return await recompute_rewards(files.read(), client, client.name, found, tasks)

    return asyncio.run(judge())


def _tasks_of(name: str, dataset: str | None) -> tuple[Workload, Sequence[Task]]:
    place = find_workload(name)
    workload = load_workload(place)
    return workload, kind_of(workload).load_dataset(dataset) if dataset else load_tasks(place, workload)


def _differs(each: Judged) -> str:
    why = each.problem or f"stored {each.stored}, judged again {each.again}"
    parts = f" ({', '.join(each.parts_differ[:3])})" if each.parts_differ else ""
    return f"reward: group {each.group}, sample {each.sample}: {why}{parts}"


def _table(found: Checked, judged: list[Judged] | None) -> Table:
    breaks = ", ".join(f"{count} {reason}" for reason, count in sorted(found.breaks.items())) or "none"
    versions = ", ".join(f"{version}: {count:,}" for version, count in sorted(found.versions.items())) or "none"
    lines = [
        ("groups", f"{found.groups:,}"),
        ("samples", f"{found.samples:,}, of these {found.failed:,} failed or cut off"),
        ("segments", f"{found.segments:,}, begun anew: {breaks}"),
        ("model calls", f"{found.calls:,}, of these {found.proved:,} with their prompt proved token by token"),
        ("tokens", f"{found.tokens:,}, of these {found.model_tokens:,} the model's"),
        ("by version of the weights", versions),
        ("without log-probabilities", f"{found.without_logprobs:,} segments"),
        ("violations", f"{len(found.violations):,}"),
    ]
    if judged is not None:
        lines.append(("rewards judged again", f"{len(judged):,}, of these {sum(j.agrees for j in judged):,} agree"))
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for label, text in lines:
        table.add_row(Text(label), Text(text))
    return table


def convert_command(
    folder: Folder,
    to: Annotated[Trainer, typer.Option("--to", help="The trainer that is to take it.")],
    into: Annotated[Path, typer.Option("--out", "-o", dir_okay=False, help="The JSON file to write.")],
    failed: Annotated[
        Unusable,
        typer.Option(
            "--failed", help="Samples that failed or were not judged: left out, or kept with nothing to learn."
        ),
    ] = Unusable.drop,
    unjudged: Annotated[
        float, typer.Option("--unjudged", help="Reward of a sample that ended by itself with nothing to judge.")
    ] = 0.0,
    logprobs: Annotated[
        bool | None, typer.Option("--logprobs/--no-logprobs", help="Whether they have to be there; default as trained.")
    ] = None,
    pad_id: Annotated[int | None, typer.Option("--pad-id", help="verl: the id that fills rows up. Default 0.")] = None,
    prompt_length: Annotated[int | None, typer.Option("--prompt-length", help="verl: tokens of a prompt.")] = None,
    response_length: Annotated[int | None, typer.Option("--response-length", help="verl: and of a response.")] = None,
) -> None:
    """Write a roll-out's groups in the shape that a trainer takes, as JSON. In Python: `thunderctl.rollouts.convert`.

    Examples:

        thunderctl rollout convert groups --to slime --out slime.json
        thunderctl rollout convert groups --to verl --out verl.json --pad-id 2 --response-length 16384
    """
    files = GroupFiles(folder)
    files.manifest()
    options: dict[str, Any] = {"failed": failed.value, "unjudged": unjudged}
    options |= {} if logprobs is None else {"logprobs": logprobs}
    of_verl = {"pad_id": pad_id, "prompt_length": prompt_length, "response_length": response_length}
    for name, value in of_verl.items():
        if value is not None:
            if to is not Trainer.verl:
                raise UsageError(f"--{name.replace('_', '-')} is about verl, and this is {to.value}")
            options[name] = value
    groups = list(files.read())
    made = CONVERTERS[to.value](groups, **options)
    try:
        text = json.dumps(made, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise UsageError(
            f"{folder} holds a number that is not finite", hint=f"where: thunderctl rollout check {folder}"
        ) from None
    into.parent.mkdir(parents=True, exist_ok=True)
    write_whole(into, text + "\n")
    samples = [sample for group in groups for sample in group.samples]
    useless = sum(reward_of(sample, unjudged) is None for sample in samples)
    fate = "left out" if failed is Unusable.drop else "masked"
    err.print(
        f"{to.value}: {len(samples)} samples of {len(groups)} groups in {into}; {useless} of them say nothing about "
        f"the model and were {fate}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def schema_command() -> None:
    """The layout of a roll-out's folder, column by column.

    Examples:

        thunderctl rollout schema
        thunderctl rollout schema | less
    """
    out.print(describe(), highlight=False, markup=False, soft_wrap=True)
