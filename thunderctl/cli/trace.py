"""``thunderctl trace``: makes traces from recordings or distributions, and shows what they hold."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from thunderctl.cli import complete
from thunderctl.cli.show import AsJson, err, out, print_json
from thunderctl.errors import UsageError
from thunderctl.traces.convert import READERS, import_sources
from thunderctl.traces.load import SUFFIXES, find_trace, list_traces, load_trace, read_trace, write_trace
from thunderctl.traces.stats import trace_stats
from thunderctl.traces.synth import KINDS, synthesise
from thunderctl.traces.trace import Trace

app = typer.Typer(
    name="trace",
    help="Make, import and look at traces: agent runs as token counts and tool times, without their texts.",
    no_args_is_help=True,
    rich_markup_mode=None,  # examples keep their lines, and brackets stay brackets
)

Form = Enum("Form", {name: name for name in ("auto", *READERS)}, type=str)  # type: ignore[misc]
KindName = Enum("KindName", {name: name for name in KINDS}, type=str)  # type: ignore[misc]
Out = Annotated[Path, typer.Option("--out", "-o", help="File to write: .jsonl or .jsonl.gz.")]

_ROWS = {
    "steps_per_program": ("steps per program", "{:,.1f}"),
    "first_prompt": ("first prompt, tokens", "{:,.0f}"),
    "final_context": ("final context, tokens", "{:,.0f}"),
    "output": ("output, tokens", "{:,.0f}"),
    "reasoning": ("reasoning, tokens", "{:,.0f}"),
    "observation": ("observation, tokens", "{:,.0f}"),
    "tool_s": ("tool, s", "{:,.1f}"),
    "resident_tokens": ("held in mid-life, tokens", "{:,.0f}"),
}


@app.command("import")
def import_command(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files, folders, or ids of stored runs.")],
    to: Out,
    form: Annotated[Form, typer.Option("--from", help="What the sources are.")] = Form.auto,  # type: ignore[attr-defined]
    as_json: AsJson = False,
) -> None:
    """Make a trace from recordings. Nothing is written if anything in them is wrong.

    Sources: mini-SWE-agent's trajectories (*.traj.json; folders are searched), our own stored runs (id or folder),
    or CSV with the header program,step,first_prompt,output,reasoning,observation,tool_s.

    \b
    Examples:
      thunderctl trace import ./trajectories --out mine.jsonl
      thunderctl trace import 20261120-101500-swebench-1a2b --out mine.jsonl
      thunderctl trace import table.csv --from csv --out mine.jsonl.gz --json
    """
    _check_name(to)
    imported = import_sources(sources, form.value)
    trace = imported.trace(to.name.removesuffix(".gz").removesuffix(".jsonl"))
    write_trace(to, trace)
    for note in imported.notes:
        err.print(note, highlight=False, soft_wrap=True, markup=False)
    _written(trace, to, as_json, notes=imported.notes)


@app.command("stats")
def stats_command(
    trace: Annotated[
        str,
        typer.Argument(
            metavar="TRACE", help="A trace's file, or the name of a bundled one.", autocompletion=complete.traces
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Print a trace's figures: lengths, times, and what an agent holds on its worker in mid-life.

    Where the file's seconds include the recorded model, its share is taken out, and a line says how much that was.

    \b
    Examples:
      thunderctl trace stats coding
      thunderctl trace stats mine.jsonl --json
    """
    found, speed = read_trace(find_trace(trace))
    figures = trace_stats(found)
    if as_json:
        taken_out = None if speed is None else {"latency_s": speed.latency_s, "token_s": speed.token_s}
        print_json({**figures, "recorded_model": taken_out})
        return
    held = figures["figures"]["resident_tokens"]["mean"]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    columns = ("mean", "p50", "p90", "p99", "max")
    for column in columns:
        table.add_column(column, justify="right")
    for key, (label, form) in _ROWS.items():
        table.add_row(label, *(form.format(figures["figures"][key][column]) for column in columns))
    out.print(
        f"{found.name}: {figures['programs']} programs, {figures['steps']} steps, digest {found.digest}",
        highlight=False,
        markup=False,
    )
    out.print(table)
    out.print(
        f"working set: {held:,.0f} tokens × agents on average, when agents are in mid-life",
        highlight=False,
        soft_wrap=True,
    )
    if speed is not None:
        out.print(
            f"the recorded model was taken out of the times: {speed.latency_s:.2f} s a call and "
            f"{1000 * speed.token_s:.2f} ms a token",
            highlight=False,
            soft_wrap=True,
        )


@app.command("synth")
def synth_command(
    to: Out,
    kind: Annotated[KindName, typer.Option("--kind", help="Which agents to imitate.")] = KindName.coding,  # type: ignore[attr-defined]
    programs: Annotated[int, typer.Option("--programs", "-n", min=1, max=100_000, help="How many programs.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same trace.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Draw a trace from fitted distributions.

    coding: fitted to recorded runs of mini-swe-agent. routing: short contexts cut on the left, tools with tails to
    hundreds of seconds. science: few long steps, tools that run programs for tens of seconds.

    \b
    Examples:
      thunderctl trace synth --kind coding --programs 500 --seed 1 --out coding.jsonl
      thunderctl trace synth --kind routing --out routing.jsonl.gz --json
    """
    _check_name(to)
    trace = synthesise(kind.value, programs, seed)
    write_trace(to, trace)
    _written(trace, to, as_json)


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List the bundled traces.

    \b
    Examples:
      thunderctl trace list
      thunderctl trace list --json
    """
    found = [trace_stats(load_trace(path)) for path in list_traces()]
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "programs", "steps", "held in mid-life, tokens", "tool p50, s", "tool p99, s"):
        table.add_column(column, justify="left" if column == "name" else "right", no_wrap=True)
    for each in found:
        held, tool = each["figures"]["resident_tokens"]["mean"], each["figures"]["tool_s"]
        table.add_row(
            each["trace"], f"{each['programs']}", f"{each['steps']:,}", f"{held:,.0f}", f"{tool['p50']:.1f}",
            f"{tool['p99']:.1f}",
        )  # fmt: skip
    out.print(table)


def _check_name(to: Path) -> None:
    """Said before the work is done."""
    if not to.name.endswith(SUFFIXES):
        raise UsageError(f"--out {to}: a trace's file ends in {' or '.join(SUFFIXES)}")


def _written(trace: Trace, to: Path, as_json: bool, **more: Any) -> None:
    figures = trace_stats(trace)
    if as_json:
        print_json({**figures, "file": str(to), **more})
        return
    out.print(
        f"{to}: {figures['programs']} programs, {figures['steps']:,} steps, digest {trace.digest}",
        highlight=False, soft_wrap=True, markup=False,
    )  # fmt: skip
