"""``simulate``: policies over numbers of agents in virtual time, or a stored run's work simulated beside it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.text import Text

from thunderctl import paths
from thunderctl.cli import complete
from thunderctl.cli.show import AsJson, Overrides, out, print_json, ticker
from thunderctl.cli.simulated import ORACLE, Setting, parse_policy, run_all, setting_like, worker_of
from thunderctl.errors import UsageError
from thunderctl.profile_files import load_profile
from thunderctl.report import plots
from thunderctl.report.stats import summarise
from thunderctl.report.sweep import Agreement, Sweep, agreement_table, headline, paper_note, sweep_table
from thunderctl.runs.store import find_run, write_whole
from thunderctl.traces.load import find_trace, load_trace
from thunderctl.traces.trace import Start

DURATION_S = 600.0
MOST_AGENTS = 100_000

TraceName = Annotated[
    str,
    typer.Option("--trace", "-t", help="A trace's file, or the name of a bundled one.", autocompletion=complete.traces),
]
Seed = Annotated[int, typer.Option("--seed", help="Shuffles the trace; same seed, same result.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, max=256, help="Settings simulated at once.")]


def simulate(
    more: Annotated[list[str] | None, typer.Argument(metavar="[RUN...]", help="Further runs for --like.")] = None,
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            "-p",
            help="Profile of the workers; with --costs it may be any.",
            autocompletion=complete.profiles,
        ),
    ] = "emulated-h100x8-glm46",
    trace: TraceName = "coding",
    agents: Annotated[str, typer.Option("--agents", "-n", help="Numbers of agents, separated by commas.")] = (
        "24,48,72,96"
    ),
    policies: Annotated[
        str,
        typer.Option(
            "--policies",
            help="Policies, the first is the base; options as in paper:decay_base=1; oracle knows the future.",
        ),
    ] = "baseline,paper,thunder",
    workers: Annotated[int | None, typer.Option("--workers", min=1, max=1024, help="Overrides workers.count.")] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", min=1, help="Seconds of virtual time. [default: 600]")
    ] = None,
    programs: Annotated[
        int | None, typer.Option("--programs", min=1, help="Run so many programs to their end instead.")
    ] = None,
    start: Annotated[
        str, typer.Option("--start", help="steady: agents begin in the midst of programs; fresh: at the first step.")
    ] = "steady",
    seed: Seed = 0,
    kv_tokens: Annotated[int | None, typer.Option("--kv-tokens", min=1, help="KV capacity of each worker.")] = None,
    costs: Annotated[
        Path | None, typer.Option("--costs", help="Time model and sizes that thunderctl calibrate measured.")
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            "--like", metavar="RUN", help="Simulate what a stored run did, beside it.", autocompletion=complete.runs
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the results; made if missing.")] = None,
    jobs: Jobs = 1,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Simulate policies over numbers of agents: the real scheduler, vLLM's rules, virtual time, no GPU.

    Writes simulate.json and report.html. With --like it simulates the same work as stored runs (of traces on emulated
    workers, or replayed on an engine whose costs were measured) and prints measured and simulated side by side.

    Examples:

        thunderctl simulate --agents 24,48,72,96 --policies baseline,paper,thunder
        thunderctl simulate --profile emulated-2x8h100-glm46 --agents 192 --policies baseline,thunder --out two
        thunderctl simulate --like 20261121-090000-trace-coding-1a2b 20261121-091500-trace-coding-3c4d
    """
    if like:
        _beside([*like, *(more or [])], costs, kv_tokens, jobs, to, as_json)
        return
    if more:
        raise UsageError(f"{more[0]!r} is unexpected here", hint="runs follow --like")
    if duration is not None and programs is not None:
        raise UsageError("--duration and --programs exclude each other")
    if start not in get_args(Start):
        raise UsageError(f"--start is {' or '.join(get_args(Start))}, not {start!r}")
    numbers, names = sorted(_agents(agents)), list(_policies(policies))
    told = load_profile(profile, overrides or []).profile
    worker, call_overhead_s = worker_of(told, costs, kv_tokens)
    count = workers or told.workers.count
    found = load_trace(find_trace(trace))
    lasts = None if programs is not None else duration or DURATION_S
    base = Setting(
        trace=found,
        workers=(worker,) * count,
        policy=names[0],
        agents=numbers[0],
        duration_s=lasts,
        programs=programs,
        start=cast(Start, start),
        seed=seed,
        call_overhead_s=call_overhead_s,
        program_ttl_s=told.gateway.program_ttl_s,
    )
    folder = _folder(to)
    with ticker() as tell:
        settings = [replace(base, agents=number, policy=name) for number in numbers for name in names]
        outcomes = run_all(settings, jobs, tell)
    sweep = Sweep(
        profile=told.name,
        model=told.emulation.model if costs is None else None,
        trace=found.name,
        digest=found.digest,
        workers=count,
        kv_tokens=worker.kv_tokens,
        duration_s=lasts,
        programs=programs,
        start=start,
        seed=seed,
        outcomes=tuple(outcomes),
    )
    write_whole(folder / "simulate.json", json.dumps(sweep.as_dict(), indent=1) + "\n")
    write_whole(folder / "report.html", plots.page(sweep))
    if as_json:
        print_json({**sweep.as_dict(), "folder": str(folder)})
        return
    _print(sweep)
    out.print(f"\nwritten to {folder / 'report.html'} and simulate.json", soft_wrap=True, highlight=False, markup=False)


def _print(sweep: Sweep) -> None:
    out.print(sweep_table(sweep))
    out.print(Text(headline(sweep).sentence, style="bold"))
    note = paper_note(sweep)
    if note is not None:
        out.print(Text(note))
    failed = max(o.summary["agents"]["by_status"].get("failed", 0) for o in sweep.outcomes)
    if failed:
        out.print(Text(f"up to {failed} programs of a setting failed: a context too long for a worker is refused"))


# ------------------------------------------------------------------ beside a stored run


def _beside(
    names: Iterable[str], costs: Path | None, kv_tokens: int | None, jobs: int, to: Path | None, as_json: bool
) -> None:
    runs = [find_run(name) for name in names]
    settings = [setting_like(run, costs, kv_tokens) for run in runs]
    folder = _folder(to)
    with ticker() as tell:
        outcomes = run_all(settings, jobs, tell)
    found = [
        Agreement(
            run=run.id,
            kind=run.read("manifest.json")["kind"],
            policy=setting.policy,
            agents=setting.agents,
            measured=summarise(run),
            simulated=outcome.summary,
        )
        for run, setting, outcome in zip(runs, settings, outcomes, strict=True)
    ]
    said = {"simulated": True, "runs": [a.as_dict() for a in found]}
    write_whole(folder / "like.json", json.dumps(said, indent=1) + "\n")
    if as_json:
        print_json({**said, "folder": str(folder)})
        return
    out.print(agreement_table(found))
    out.print(f"\nwritten to {folder / 'like.json'}", soft_wrap=True, highlight=False, markup=False)


# ------------------------------------------------------------------ small things of the command line


def _folder(to: Path | None) -> Path:
    folder = to or paths.home() / "simulations" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}") from None
    return folder


def _policies(text: str) -> Iterator[str]:
    """Each policy of a list; ``UsageError`` for one that is unknown, empty or said twice."""
    seen: set[str] = set()
    for name in (given.strip() for given in text.split(",")):
        if name != ORACLE:
            parse_policy(name)
        if name in seen:
            raise UsageError(f"--policies says {name!r} twice")
        seen.add(name)
        yield name


def _agents(text: str) -> set[int]:
    found = set()
    for part in text.split(","):
        if not part.strip().isdecimal() or not 1 <= int(part) <= MOST_AGENTS:
            raise UsageError(f"--agents wants numbers from 1 to {MOST_AGENTS:,} with commas between, not {part!r}")
        found.add(int(part))
    return found
