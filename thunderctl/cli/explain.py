"""``thunderctl explain PROGRAM``: the story of one program in plain words, told from what the daemon noted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from thunderctl import launcher
from thunderctl.cli import complete
from thunderctl.cli.node import NodeName, ask
from thunderctl.cli.show import AsJson, out, print_json
from thunderctl.launcher import DEFAULT_NODE
from thunderctl.report.tables import seconds


def explain(
    program: Annotated[
        str, typer.Argument(help="The program's id; `thunderctl ps` lists them.", autocompletion=complete.programs)
    ],
    node: NodeName = DEFAULT_NODE,
    as_json: AsJson = False,
) -> None:
    """What happened to one program: when it waited, why it was paused, where it was restored.

    Also for programs that ended lately.

    Examples:

        thunderctl explain fieldpress__cut-in-quotes-1590
        thunderctl explain fieldpress__cut-in-quotes-1590 --json
    """
    found = ask(launcher.need(node), lambda client: client.program(program))
    if as_json:
        print_json(found)
        return
    for line in summary(found):
        out.print(escape(line), highlight=False)
    table = Table("time", "what", box=None, pad_edge=False, header_style="dim")
    if found["timeline_left_out"]:
        table.add_row("", f"({found['timeline_left_out']} earlier entries are not kept)", style="dim")
    for entry in found["timeline"]:
        table.add_row(time.strftime("%H:%M:%S", time.localtime(entry["at"])), escape(sentence(entry)))
    out.print(table)


def summary(found: dict[str, Any]) -> list[str]:
    """The program in two or three lines: where it stands, and what waiting cost it."""
    calls = [entry for entry in found["timeline"] if entry["what"] == "call"]
    if found["state"] == "terminated":
        lines = [f"{found['program']} has ended"]
    else:
        where = f" on {found['backend']}" if found["backend"] else ""
        lines = [
            f"{found['program']} is {found['state']}{where}, {found['status']} for {seconds(found['in_phase_s'])}: "
            f"{found['total_tokens']:,} tokens, {found['step_count']} steps",
            f"paused {_times(found['pauses'])}; its calls waited {seconds(found['waited_s'])} in all",
        ]
        if found["held"]:
            lines.append(f"{found['held']} of its calls wait for a place now")
    prompt = sum(call.get("prompt_tokens", 0) for call in calls)
    cached = sum(call.get("cached_tokens", 0) for call in calls)
    if prompt:
        lines.append(f"of {prompt:,} prompt tokens of the calls below, {cached / prompt:.0%} were cached")
    if found["docker_ids"]:
        lines.append(f"containers of its own: {', '.join(found['docker_ids'])}")
    return lines


def sentence(entry: dict[str, Any]) -> str:
    """One entry of the timeline in words."""
    return _SENTENCES[entry["what"]](entry)


def _call(entry: dict[str, Any]) -> str:
    waited = f"waited {seconds(entry['held_s'])}, then " if entry["held_s"] >= 0.05 else ""
    worker = entry["worker"] or "no worker"
    took = seconds(entry["seconds"] - entry["held_s"])
    if entry["outcome"] == "answered":
        return (
            f"{waited}{worker} answered in {took}: {entry['prompt_tokens']:,} tokens in "
            f"({entry['cached_tokens']:,} cached), {entry['output_tokens']:,} out"
        )
    if entry["outcome"] == "cancelled":
        where = f"while {worker} was answering" if entry["worker"] else "while it waited"
        return f"{waited}the client gave its call up {where}, after {seconds(entry['seconds'])}"
    if entry["outcome"] == "bounced":
        return f"{waited}{worker} did not take the call; it is tried again"
    return f"{waited}{worker} failed the call after {took}"


def _restored(entry: dict[str, Any]) -> str:
    waited = f" after waiting {seconds(entry['waited_s'])}" if entry["waited_s"] >= 0.05 else ""
    moved = ", away from where its cache was" if entry["moved"] else ""
    forced = ", although it did not fit" if entry["forced"] else ""
    return f"placed on {entry['worker']} ({entry['tokens']:,} tokens){waited}{moved}{forced}: {entry['reason']}"


_SENTENCES: dict[str, Callable[[dict[str, Any]], str]] = {
    "call": _call,
    "restored": _restored,
    "paused": lambda e: f"paused: its {e['tokens']:,} tokens on {e['worker']} were given up: {e['reason']}",
    "refused": lambda e: f"a call was refused with {e['status']}: {e['reason']}",
    "tool": lambda e: f"a tool ran for {seconds(e['seconds'])}",
    "ended": lambda e: "ended: released, or silent for too long",
}


def _times(count: int) -> str:
    return "never" if count == 0 else "once" if count == 1 else f"{count} times"
