"""``thunderctl env``: the tool environments of a node: list them, look into them, use them, take them back."""

from __future__ import annotations

import asyncio
import difflib
import shlex
import sys
import time
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from thunderctl import launcher
from thunderctl.agents.client import DaemonClient, Lease
from thunderctl.cli import complete, env_image
from thunderctl.cli.gc import age
from thunderctl.cli.node import NodeName, ask
from thunderctl.cli.show import AsJson, err, out, print_json
from thunderctl.environments import terminal
from thunderctl.environments.backend import describe, wanted_from_json
from thunderctl.environments.lease import ACTIVE, LeaseLedger
from thunderctl.errors import EnvironmentFailure, ExitCode, UsageError
from thunderctl.launcher import DEFAULT_NODE, NodeHandle
from thunderctl.node import node_dir
from thunderctl.report.tables import seconds, size

app = typer.Typer(
    name="env",
    help="Tool environments of a node: list, show, use and reclaim them; bring images before a run needs them.",
    no_args_is_help=True,
)

LeaseId = Annotated[
    str, typer.Argument(metavar="LEASE", help="Id of a lease, as `ls` shows it; its beginning will do.")
]

RECLAIMED = "it was reclaimed with `thunderctl env rm`"
"""What a program is told that still wants to use its environment."""


@app.command("ls")
def ls_command(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Those that are over as well.")] = False,
    node: NodeName = DEFAULT_NODE,
    as_json: AsJson = False,
) -> None:
    """List the leases of the node: whose they are, their state, and what they hold on the disk.

    Bytes are measured now; those of an environment that is over are what it held at the end.

    Examples:

        thunderctl env ls
        thunderctl env ls --all --json
    """

    async def look(client: DaemonClient) -> list[dict[str, Any]]:
        await client.disk()  # measures: the leases then say what they hold now
        return await client.environments()

    found = [lease for lease in ask(launcher.need(node), look) if everything or lease["state"] != "reclaimed"]
    if as_json:
        print_json({"environments": found})
        return
    if not found:
        out.print("no environment is leased", highlight=False)
        return
    out.print(_table(found), highlight=False)
    held = sum(lease["bytes"] for lease in found if lease["state"] != "reclaimed")
    out.print(f"{len(found)} leases, {size(held)} on the disk", highlight=False)


@app.command("show")
def show_command(lease: LeaseId, node: NodeName = DEFAULT_NODE, as_json: AsJson = False) -> None:
    """Show one lease whole: what was asked for, its limits, where it is, and when it was in which state.

    Of variables only the names are shown: their values may be secrets.

    Examples:

        thunderctl env show 3f9a
        thunderctl env show 3f9a --json
    """
    handle = launcher.need(node)
    chosen = _chosen(_leases(handle), lease)["id"]
    found = ask(handle, lambda client: client.environment_story(chosen))
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for title, text in _facts(found):
        table.add_row(title, escape(text))
    out.print(table, highlight=False)


@app.command("exec")
def exec_command(
    lease: LeaseId,
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="One shell line, or a program and its words.")
    ],
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.001, help="Seconds; without it the environment's own limit.")
    ] = None,
    node: NodeName = DEFAULT_NODE,
    as_json: AsJson = False,
) -> None:
    """Run one command in an environment, as a tool of its program, and exit with the command's code.

    What it writes is printed when it has ended. A program whose words begin with "-" stands behind "--".

    Examples:

        thunderctl env exec 3f9a 'git diff | head' --timeout 5
        thunderctl env exec 3f9a -- python3 -m pytest -q
    """
    handle = launcher.need(node)
    chosen = _usable(_leases(handle), lease)["id"]
    line = command[0] if len(command) == 1 else shlex.join(command)
    done = ask(handle, lambda client: client.execute(Lease(chosen, 0.0), line, timeout))
    if as_json:
        print_json({
            "output": done.output, "returncode": done.returncode, "duration_s": done.duration_s,
            "timed_out": done.timed_out, "truncated_bytes": done.truncated_bytes,
        })  # fmt: skip
    else:
        sys.stdout.write(done.output)
        sys.stdout.flush()
        if done.truncated_bytes:
            err.print(f"[dim]{done.truncated_bytes} bytes in the middle were left out[/]", highlight=False)
        if done.timed_out:
            err.print(f"[bold red]the command was ended after {seconds(done.duration_s)}[/]", highlight=False)
    raise typer.Exit(done.returncode)


@app.command("shell")
def shell_command(lease: LeaseId, node: NodeName = DEFAULT_NODE) -> None:
    """Open a shell in an environment: same user, same place, same limits as its tools.

    The program goes on meanwhile, and the shell ends with the environment. In a container it may also end with a
    command of the program, which takes along what it cannot tell from its own.

    Example:

        thunderctl env shell 3f9a
        thunderctl env shell 3f9a --node training
    """
    handle = launcher.need(node)
    found = _usable(_leases(handle), lease)
    if found["state"] not in ("ready", "in_use"):
        raise EnvironmentFailure(
            f"lease {found['id']} is {found['state']}: there is nothing to enter yet",
            hint="`thunderctl env exec` waits until it is ready",
        )
    ledger = LeaseLedger(node_dir(node) / "state.db")
    try:
        known, said = ledger.get(found["id"]), ledger.spec(found["id"])
    finally:
        ledger.close()
    if said is None:
        raise EnvironmentFailure(f"what lease {known.id} was asked for is not in the ledger")
    code = terminal.shell(known, wanted_from_json(said), node_dir(node))
    if known.backend == "local":  # the node measures what a command may have changed, and knows of none
        ask(handle, lambda client: client.execute(Lease(known.id, 0.0), ":"))
    raise typer.Exit(code)


@app.command("rm")
def rm_command(
    leases: Annotated[
        list[str] | None, typer.Argument(metavar="LEASE…", help="Ids, as `ls` shows them; their beginnings will do.")
    ] = None,
    program: Annotated[
        str | None,
        typer.Option("--program", help="All environments of this program.", autocompletion=complete.programs),
    ] = None,
    run: Annotated[str | None, typer.Option("--run", help="All environments of this run.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    node: NodeName = DEFAULT_NODE,
    as_json: AsJson = False,
) -> None:
    """Reclaim environments, with all that is in them.

    What runs there is killed, and the agent is told at its next command.

    Examples:

        thunderctl env rm 3f9a 77c0
        thunderctl env rm --run 20260301-120000-swebench --yes
    """
    if (bool(leases), program is not None, run is not None).count(True) != 1:
        raise UsageError("say which environments: leases, --program or --run", hint="`thunderctl env ls` shows them")
    handle = launcher.need(node)
    there = [lease for lease in _leases(handle) if lease["state"] != "reclaimed"]
    if leases:
        picked = {lease["id"]: lease for lease in (_chosen(_leases(handle), text) for text in leases)}
        going = [lease for lease in picked.values() if lease["state"] != "reclaimed"]
    else:
        going = _of(there, "program", program) if program is not None else _of(there, "run", run or "")
    if not going:
        if as_json:
            print_json({"reclaimed": [], "failed": {}})
        else:
            out.print("reclaimed already: nothing to do", highlight=False)
        return
    if not as_json:
        out.print(_table(going), highlight=False)
    if not yes and not as_json and sys.stdin.isatty() and not typer.confirm("Reclaim them?", default=False):
        return
    failed = ask(handle, lambda client: _reclaim(client, [lease["id"] for lease in going]))
    done = [lease["id"] for lease in going if lease["id"] not in failed]
    if as_json:
        print_json({"reclaimed": done, "failed": failed})
    else:
        out.print(f"reclaimed {len(done)}", highlight=False)
        for name, why in failed.items():
            out.print(f"failed: {name}: {why}", markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(ExitCode.FAILED)


app.command("prefetch")(env_image.prefetch)
app.add_typer(env_image.image_app, name="image")


async def _reclaim(client: DaemonClient, leases: list[str]) -> dict[str, str]:
    """Those that could not be, with the reason."""
    ends = await asyncio.gather(
        *(client.give_back(Lease(lease, 0.0), RECLAIMED) for lease in leases), return_exceptions=True
    )
    return {lease: describe(end) for lease, end in zip(leases, ends, strict=True) if isinstance(end, BaseException)}


def _leases(handle: NodeHandle) -> list[dict[str, Any]]:
    return ask(handle, lambda client: client.environments())


def _chosen(leases: list[dict[str, Any]], text: str) -> dict[str, Any]:
    """The lease that ``text`` begins; ``UsageError`` says what was meant if it is none or several."""
    exact = [lease for lease in leases if lease["id"] == text]
    found = exact or [lease for lease in leases if text and lease["id"].startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(lease["id"] for lease in found[:8]) + (" …" if len(found) > 8 else "")
        raise UsageError(f"{len(found)} leases begin with {text!r}", hint=f"they are {names}")
    if any(lease["program"] == text for lease in leases):
        mine = ", ".join(lease["id"] for lease in leases if lease["program"] == text and lease["state"] in ACTIVE)
        raise UsageError(f"{text!r} is a program, not a lease", hint=f"its leases: {mine or 'none any more'}")
    close = difflib.get_close_matches(text, [lease["id"] for lease in leases], 3, 0.6)
    # An id may be cut short and misspelt.
    close = close or difflib.get_close_matches(text, [lease["id"][: len(text)] for lease in leases], 3, 0.6)
    hint = f"did you mean {' or '.join(close)}?" if close else "`thunderctl env ls --all` lists all of them"
    raise UsageError(f"there is no lease {text!r}", hint=hint)


def _usable(leases: list[dict[str, Any]], text: str) -> dict[str, Any]:
    """The lease, unless it is over."""
    active = [lease for lease in leases if lease["state"] in ACTIVE]
    found = _chosen(active if any(lease["id"].startswith(text) for lease in active) else leases, text)
    if found["state"] not in ACTIVE:
        raise EnvironmentFailure(f"lease {found['id']} is {found['state']}: its environment is over")
    return found


def _of(leases: list[dict[str, Any]], key: str, name: str) -> list[dict[str, Any]]:
    found = [lease for lease in leases if lease[key] == name]
    if not found:
        known = sorted({lease[key] for lease in leases if lease[key]})
        close = difflib.get_close_matches(name, known, 3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(known[:8]) or 'none'}"
        raise UsageError(f"no environment belongs to the {key} {name!r}", hint=hint)
    return found


def _table(leases: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("lease", "program", "run", "state", "age", "image", "bytes", "back-end"):
        table.add_column(title, overflow="fold", no_wrap=title == "lease")
    now = time.time()
    for lease in leases:
        table.add_row(
            lease["id"], escape(lease["program"]), escape(lease["run"]), lease["state"], age(now - lease["created"]),
            escape(lease["image"] or ""), size(lease["bytes"]), lease["backend"],
        )  # fmt: skip
    return table


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Title and text of each line."""
    spec = found["spec"]
    lines = [
        ("lease", found["id"]),
        ("program", found["program"]),
        ("run", found["run"] or "none"),
        ("state", found["state"]),
        ("back-end", found["backend"]),
        ("place", found["place"] or "none yet"),
        ("image", found["image"] or "none"),
        ("bytes", size(found["bytes"])),
    ]
    if spec is not None:
        limits = spec["limits"]
        lines += [
            ("files", spec["files"] or "none"),
            ("set-up", "\n".join(spec["setup"]) or "none"),
            ("variables", ", ".join(spec["env"]) or "none"),
            ("user", spec["user"] or "the usual one"),
            ("working in", spec["workdir"]),
            ("network", spec["network"]),
            ("ports", ", ".join(_port(port, found["ports"].get(str(port))) for port in spec["ports"]) or "none"),
            ("mounts", "\n".join(_mount(mount) for mount in spec["mounts"]) or "none"),
            ("limits", f"{limits['cpus']:g} CPU, {limits['memory_mib']} MiB, {limits['pids']} processes, "
                       f"{limits['disk_mib']} MiB on the disk"),
            ("", f"commands {seconds(limits['exec_timeout_s'])} and {size(limits['output_bytes'])} of output, "
                 f"the whole {seconds(limits['wall_s'])}"),
        ]  # fmt: skip
    began = found["created"]
    for number, move in enumerate(found["states"]):
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(move["at"]))
        lines.append(("states" if not number else "", f"{at}  {move['state']} (+{seconds(move['at'] - began)})"))
    return lines


def _port(inside: int, outside: int | None) -> str:
    return f"{inside} → 127.0.0.1:{outside}" if outside is not None else str(inside)


def _mount(mount: dict[str, Any]) -> str:
    return f"{mount['source']} → {mount['target']} ({'writable' if mount['writable'] else 'read-only'})"
