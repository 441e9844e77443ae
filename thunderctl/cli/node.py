"""``up``, ``down``, ``status``, ``ps`` and ``logs``: one node's life, as its operator sees it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer
from rich.live import Live
from rich.table import Table

from thunderctl import launcher
from thunderctl.agents.client import DaemonClient
from thunderctl.cli import complete
from thunderctl.cli.log_lines import LEVELS, LogFile
from thunderctl.cli.show import AsJson, Overrides, err, out, print_json, ticker
from thunderctl.errors import DaemonError, ExitCode, UsageError
from thunderctl.launcher import DEFAULT_NODE, NodeHandle
from thunderctl.node import alive, node_dir, read_node
from thunderctl.profile_files import load_profile
from thunderctl.report.tables import seconds
from thunderctl.workers.launch import serve_command

T = TypeVar("T")

WATCH_S = 1.0
"""Seconds between two looks of ``ps --watch``."""

NodeName = Annotated[
    str, typer.Option("--node", help="Which node, if several run on this machine.", autocompletion=complete.nodes)
]


def up(
    profile: Annotated[str, typer.Argument(help="Profile name or file.", autocompletion=complete.profiles)] = "laptop",
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the engine's command lines and stop.")] = False,
    node: NodeName = DEFAULT_NODE,
    as_json: AsJson = False,
) -> None:
    """Bring a node up: workers, scheduler daemon, tool environments. Does nothing if it is up already.

    Examples:

        thunderctl up
        thunderctl up gpu-1 -c scheduler.policy=paper
        thunderctl up h100x8 --dry-run
    """
    resolved = load_profile(profile, overrides or ())
    if dry_run:
        launcher.preflight(resolved.profile)
        _dry_run(resolved.profile, as_json)
        return
    with ticker() as tell:
        handle = launcher.bring_up(resolved, name=node, progress=tell)
    health = launcher.health_of(handle.record)
    if as_json:
        print_json({"node": node, "url": handle.record.url, "was_up": handle.was_up, "health": health})
        return
    out.print(f"{'already up' if handle.was_up else 'up'}: [bold]{resolved.profile.name}[/] at {handle.record.url}/v1")
    if health is not None:
        out.print(_worker_table(health))
        if health["environments"]["notice"]:
            err.print(f"[yellow]{health['environments']['notice']}[/]")


def _dry_run(profile: Any, as_json: bool) -> None:
    if profile.engine.kind == "external":
        lines = []
    else:
        lines = [serve_command(profile, i, 8000 + i, None, None) for i in range(profile.workers.count)]
    if as_json:
        print_json({"workers": [{"argv": c.argv, "env": c.env} for c in lines], "urls": profile.workers.urls})
        return
    for command in lines:
        typer.echo(command.shell_line())
    for url in profile.workers.urls:
        typer.echo(f"# external: {url}")


def down(node: NodeName = DEFAULT_NODE, as_json: AsJson = False) -> None:
    """Take the node down, with everything it started. Does nothing if it is down.

    Examples:

        thunderctl down
        thunderctl down --node training
    """
    with ticker() as tell:
        was_up = launcher.take_down(node, progress=tell)
    if as_json:
        print_json({"node": node, "was_up": was_up})
    else:
        out.print("down" if was_up else "nothing was up")


def _health(node: str) -> dict[str, Any]:
    record = read_node(node)
    found = launcher.health_of(record) if record is not None and alive(record) else None
    if found is None:
        raise DaemonError(f"no node is up ({node})", hint="thunderctl up laptop")
    return {**found, "url": record.url if record else ""}


def status(node: NodeName = DEFAULT_NODE, as_json: AsJson = False) -> None:
    """What runs: profile, policy, workers with their KV capacity, programs, environments. Exit code 1 if nothing does.

    Examples:

        thunderctl status
        thunderctl status --json
    """
    health = _health(node)
    if as_json:
        print_json(health)
        return
    out.print(
        f"[bold]{health['profile']}[/] at {health['url']}/v1 · {health['status']} · policy {health['policy']} · "
        f"up for {seconds(health['uptime_s'])}"
    )
    out.print(
        f"programs: {health['programs_count']} ({health['reasoning_count']} reasoning, "
        f"{health['acting_count']} acting, {health['paused_count']} paused)"
    )
    environments = health["environments"]
    leases = ", ".join(f"{n} {state}" for state, n in environments["leases"].items()) or "none"
    out.print(f"environments: {environments['backend']}; leases: {leases}")
    out.print(_worker_table(health))


def _worker_table(health: dict[str, Any]) -> Table:
    table = Table("worker", "state", "model", "KV capacity", "reasoning", "acting", "programs", "prefill", "url")
    for w in health["workers"]:
        table.add_row(
            w["name"],
            w["state"],
            w["model"] or "",
            f"{w['capacity_tokens']:,} tokens" if w["capacity_tokens"] else "",
            f"{w['reasoning_tokens']:,}",
            f"{w['acting_tokens']:,}",
            str(w["programs"]),
            f"{w['prefill_tokens_per_s']:,} tokens/s" if w["prefill_tokens_per_s"] else "",
            w["url"],
        )
    return table


def ask(handle: NodeHandle, question: Callable[[DaemonClient], Awaitable[T]]) -> T:
    """Put one question to the node's daemon; it is up, so there is nothing to be patient for."""

    async def put() -> T:
        async with handle.client() as client:
            client.patience_s = 0.0
            return await question(client)

    return asyncio.run(put())


def ps(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Draw the table again every second.")] = False,
    node: NodeName = DEFAULT_NODE,
    as_json: AsJson = False,
) -> None:
    """The programs that the scheduler knows, and what each is doing.

    Examples:

        thunderctl ps
        thunderctl ps --watch
    """
    handle = launcher.need(node)
    programs = ask(handle, lambda client: client.programs())
    if as_json:
        print_json(programs)
        return
    if not watch:
        out.print(_program_table(programs) if programs else "no programs")
        return
    try:
        with Live(_program_table(programs, out.height - 3), console=out, auto_refresh=False) as live:
            while True:
                time.sleep(WATCH_S)
                programs = ask(handle, lambda client: client.programs())
                live.update(_program_table(programs, out.height - 3), refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _program_table(programs: dict[str, Any], rows: int | None = None) -> Table:
    """One row a program; with ``rows`` those that wait longest and reason come first, and the rest is a number."""
    shown = list(programs.items())
    caption = None
    if rows is not None:
        shown.sort(key=lambda item: (item[1]["held"] == 0, item[1]["status"] != "reasoning", -item[1]["in_phase_s"]))
        states = Counter(f"{p['state']} {p['status']}" for p in programs.values())
        caption = f"{len(programs)} programs: " + ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
        shown = shown[: max(1, rows)]
    table = Table(
        "program", "status", "phase", "worker", "tokens", "steps", "pauses", "held for", "in phase for", caption=caption
    )
    for name, p in shown:
        table.add_row(
            name, p["state"], p["status"], p["backend"] or "", f"{p['total_tokens']:,}", str(p["step_count"]),
            str(p["pauses"]), seconds(p["waited_s"]), seconds(p["in_phase_s"]),
        )  # fmt: skip
    return table


def logs(
    which: Annotated[
        str, typer.Argument(help="daemon, reaper, worker (all of them) or worker-N.", autocompletion=complete.logs)
    ] = "daemon",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing as lines arrive.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines of the end to print.")] = 50,
    level: Annotated[
        str | None, typer.Option("--level", help=f"Only lines of this level or above: {', '.join(LEVELS)}.")
    ] = None,
    node: NodeName = DEFAULT_NODE,
    as_json: AsJson = False,
) -> None:
    """The daemon's log, or a worker's (vLLM's own). They stay after the node is down; large ones are rotated.

    THUNDERCTL_LOG_FORMAT=json makes the daemon log JSON lines, THUNDERCTL_LOG_LEVEL=info,workers=debug chooses levels;
    both are read by `thunderctl up`.

    Examples:

        thunderctl logs worker
        thunderctl logs -f daemon --level warning
    """
    if level is not None and level not in LEVELS:
        raise UsageError(f"--level {level!r} is no level", hint=f"levels: {', '.join(LEVELS)}")
    folder = node_dir(node) / "logs"
    known = sorted(p.stem for p in folder.glob("*.log"))
    chosen = [name for name in known if name == which or (which == "worker" and name.startswith("worker-"))]
    if not chosen:
        raise UsageError(f"there is no log {which!r} of node {node!r}", hint=f"logs: {', '.join(known) or 'none yet'}")
    files = [LogFile(folder / f"{name}.log", level) for name in chosen]
    if as_json:
        print_json({file.name: file.last(lines) for file in files})
        return
    mark = len(files) > 1
    for file in files:
        for line in file.last(lines):
            typer.echo(f"{file.name}: {line}" if mark else line)
    try:
        while follow:
            for file in files:
                for line in file.fresh():
                    typer.echo(f"{file.name}: {line}" if mark else line)
            time.sleep(0.3)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
