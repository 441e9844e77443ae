"""``thunderctl workload``: which workloads there are, what their tasks are, whether they hold, and a new one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from thunderctl.cli.asked import Part, Pattern
from thunderctl.cli.show import AsJson, err, out, print_json, ticker
from thunderctl.errors import ExitCode, WorkloadError
from thunderctl.profile import ToolEnvironmentSpec
from thunderctl.runs.record import record_tasks
from thunderctl.runs.shape import choose
from thunderctl.runs.validate import Finding, check_tasks
from thunderctl.workload.base import Task, Workload
from thunderctl.workload.kinds import KINDS
from thunderctl.workload.load import find_workload, list_workloads, load_tasks, load_workload
from thunderctl.workload.skeleton import new_workload

app = typer.Typer(
    name="workload",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Workloads and their tasks: list, show, check, and begin one of your own.",
)

Name = Annotated[str, typer.Argument(metavar="WORKLOAD", help="A bundled workload, or a folder of your own (./mine).")]
Backend = Annotated[
    str, typer.Option("--backend", help="Where the tasks' tools run: docker, local, or auto: docker if it answers.")
]


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """The bundled workloads, and the kinds that there are.

    Examples:

        thunderctl workload list
        thunderctl workload list --json
    """
    rows = []
    for name in list_workloads():
        workload, tasks = _load(name)
        rows.append(
            {
                "workload": name,
                "kind": workload.kind,
                "tasks": len(tasks),
                "with_trajectory": sum(bool(task.trajectory) for task in tasks),
                "description": workload.description,
            }
        )
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    for title in ("workload", "kind", "tasks", "replayable", "description"):
        table.add_column(title, justify="right" if title in ("tasks", "replayable") else "left")
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row.values()))
    out.print(table)
    out.print(f"\nkinds: {', '.join(KINDS)}; traces (thunderctl trace list) run as workload trace", highlight=False)


@app.command("show")
def show_command(name: Name, as_json: AsJson = False) -> None:
    """A workload: its limits, its environment, and its tasks. Steps are those of the recorded trajectory.

    Examples:

        thunderctl workload show swebench
        thunderctl workload show ./mine --json
    """
    workload, tasks = _load(name)
    rows = [
        {
            "task": task.instance_id,
            "domain": task.domain,
            "difficulty": task.difficulty,
            "steps": len(task.trajectory) if task.trajectory else None,
            "gold": task.gold is not None,
            "title": task.title,
        }
        for task in tasks
    ]
    if as_json:
        print_json({**workload.model_dump(mode="json"), "tasks": rows})
        return
    out.print(f"[bold]{workload.name}[/], kind {workload.kind}: {workload.description}", highlight=False)
    limits = workload.limits
    out.print(
        f"at most {limits.steps} steps, {limits.output_tokens:,} tokens an answer, "
        f"{limits.observation_chars:,} characters an observation; image {workload.environment.image or 'the base'}\n",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    for title in ("task", "domain", "difficulty", "steps", "title"):
        table.add_column(title, justify="right" if title == "steps" else "left", no_wrap=title == "task")
    for row in rows:
        table.add_row(*(Text("–" if row[k] is None else str(row[k])) for k in row if k != "gold"))
    out.print(table)


@app.command("validate")
def validate_command(
    name: Name,
    pattern: Pattern = None,
    part: Part = None,
    replay: Annotated[
        bool, typer.Option("--replay/--no-replay", help="Replay the recorded trajectories too, and have them judged.")
    ] = True,
    record: Annotated[
        bool, typer.Option("--record", help="Afterwards note what each recorded command returned (workload record).")
    ] = False,
    backend: Backend = "auto",
    as_json: AsJson = False,
) -> None:
    """Check a workload: its files, and by running them that each task's gold solution passes, that the untouched task
    fails, and that its recorded trajectory ends in a right submission. Exits with 2 if anything is wrong.

    Examples:

        thunderctl workload validate swebench
        thunderctl workload validate ./mine --filter 'parser__*' --backend docker
    """
    workload, tasks = _load(name, pattern, part)
    settings = _settings(backend)
    with ticker() as tell:

        def done(finding: Finding) -> None:
            tell(f"{finding.instance_id}: {'; '.join(finding.problems) or 'ok'}")

        findings = asyncio.run(check_tasks(workload, tasks, settings, replay=replay, progress=tell, done=done))
    wrong = [finding for finding in findings if finding.problems]
    if record and not wrong:
        _record(workload, tasks, settings)
    if as_json:
        print_json({"workload": workload.name, "ok": not wrong, "tasks": [asdict(f) for f in findings]})
    else:
        out.print(_findings_table(findings))
        out.print(f"\n{len(findings) - len(wrong)} of {len(findings)} tasks of {workload.name} hold", highlight=False)
    if wrong:
        raise typer.Exit(ExitCode.USAGE)


@app.command("record")
def record_command(
    name: Name, pattern: Pattern = None, part: Part = None, backend: Backend = "auto", as_json: AsJson = False
) -> None:
    """Run each recorded trajectory twice and note in it what its commands returned: a later replay that differs is
    counted as drifted.

    Examples:

        thunderctl workload record ./mine
        thunderctl workload record ./mine --filter 'parser__*' --backend local
    """
    workload, tasks = _load(name, pattern, part)
    found = _record(workload, tasks, _settings(backend))
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False)
    for title in ("task", "steps", "return codes", "outputs", "not the same twice"):
        table.add_column(title, justify="left" if title == "task" else "right", no_wrap=title == "task")
    for row in found:
        unstable = ", ".join(map(str, row["unstable"])) or "–"
        table.add_row(row["instance_id"], str(row["steps"]), str(row["codes"]), str(row["digests"]), unstable)
    out.print(table)


@app.command("new")
def new_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where; its last part is the workload's name.")],
    kind: Annotated[str, typer.Option("--kind", help=f"One of {', '.join(KINDS)}.")],
    as_json: AsJson = False,
) -> None:
    """Begin a workload of your own: a bundled one's prompts, and one of its tasks as the example to replace.

    Examples:

        thunderctl workload new ./mine --kind coding
        thunderctl workload new ./lab-questions --kind routing
    """
    source = new_workload(folder, kind)
    if as_json:
        print_json({"folder": str(folder), "from": source})
        return
    out.print(f"{folder} was begun from {source}: replace its task, and the prompts as you like", highlight=False)
    out.print(f"then: thunderctl workload validate {_as_argument(folder)}", highlight=False)


def _as_argument(folder: Path) -> str:
    return str(folder) if "/" in str(folder) else f"./{folder}"


def _load(name: str, pattern: str | None = None, part: str | None = None) -> tuple[Workload, Sequence[Task]]:
    folder = find_workload(name)
    workload = load_workload(folder)
    named = [(task.instance_id, task) for task in load_tasks(folder, workload)]
    return workload, choose(named, pattern=pattern, part=part, shuffle=False, seed=0, what="task")


def _settings(backend: str) -> ToolEnvironmentSpec:
    known: dict[str, Literal["auto", "docker", "local"]] = {"auto": "auto", "docker": "docker", "local": "local"}
    if backend not in known:
        raise WorkloadError(f"--backend {backend!r} is none", hint=f"back-ends: {', '.join(known)}")
    return ToolEnvironmentSpec(backend=known[backend])


def _record(workload: Workload, tasks: Sequence[Task], settings: ToolEnvironmentSpec) -> list[dict[str, Any]]:
    recorded = [task for task in tasks if task.trajectory]
    if not recorded:
        raise WorkloadError(f"no task of {workload.name} has a recorded trajectory")
    with ticker() as tell:
        return [asdict(each) for each in asyncio.run(record_tasks(workload, recorded, settings, tell))]


def _findings_table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("task", "gold passes", "untouched fails", "replay passes", "drifted", "s"):
        table.add_column(title, justify="left" if title == "task" else "right", no_wrap=title == "task")
    marks = {True: Text("yes", style="green"), False: Text("no", style="red"), None: Text("–")}
    for each in findings:
        judged = (marks[each.gold_passes], marks[each.untouched_fails], marks[each.replay_passes])
        table.add_row(Text(each.instance_id), *judged, str(each.drifted or "–"), f"{each.seconds:.0f}")
    for each in findings:
        for problem in each.problems:
            err.print(f"[red]{each.instance_id}[/]: ", end="")
            err.print(problem, markup=False, highlight=False, soft_wrap=True)
    return table
