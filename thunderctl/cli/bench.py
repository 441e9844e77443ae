"""``thunderctl bench``: what the scheduler's decisions cost, and what they are worth."""

from __future__ import annotations

import gc
import json
import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from thunderctl.cli import bench_rollout, complete
from thunderctl.cli.experiment import LOADS, Trial, run_trials
from thunderctl.cli.show import AsJson, out, print_json, ticker
from thunderctl.cli.simulate import Jobs, TraceName
from thunderctl.cli.simulated import SIMULATED, parse_policy, worker_of
from thunderctl.core import events as ev
from thunderctl.core.effects import Admit, Effect
from thunderctl.core.policies import POLICIES as LIVE
from thunderctl.core.policies.base import Policy
from thunderctl.core.scheduler import Scheduler
from thunderctl.errors import UsageError
from thunderctl.profile_files import load_profile
from thunderctl.report import experiment
from thunderctl.runs.store import write_whole
from thunderctl.traces.load import find_trace, load_trace

T = TypeVar("T")

app = typer.Typer(
    name="bench",
    help="Measure what scheduling costs, and what it is worth.",
    no_args_is_help=True,
    rich_markup_mode=None,  # examples keep their lines, and brackets stay brackets
)

POLICIES = (
    "baseline,paper,paper:decay_base=1,paper:lambda_max=1:lambda_min=1,paper:decay_base=1:lambda_max=1:lambda_min=1,"
    "continuum,shadow-price,thunder:newcomers=0:ageing_s=1e9,thunder,oracle,oracle:horizon=30:stalled=0.5"
)
CONTEXT_TOKENS = 12_000
"""Mean context of a program in ``bench scheduler``."""
EVENT_EVERY_S = 5.0
"""Between two events of one program in ``bench scheduler``, so that time goes by alike at any size."""
PRESSURE = 2.0
"""Contexts of all programs ÷ capacity of all workers in ``bench scheduler``."""
CLOCK_READINGS = 20_000


# ------------------------------------------------------------------ what a decision costs


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast events are handled. Processor time, so that a busy machine does not count."""

    policy: str
    programs: int
    workers: int
    events: int
    events_per_s: float
    mean_us: float
    decisions: int
    """Pauses and placements among them."""


def measure(policy: str, programs: int, workers: int, events: int) -> Speed:
    """Let ``programs`` programs, half of which fit, go on and on; time ``events`` events after all have arrived."""
    scheduler = Scheduler(parse_policy(policy), program_ttl_s=1e9)
    capacity = max(2 * CONTEXT_TOKENS, round(programs * CONTEXT_TOKENS / workers / PRESSURE))
    dice = random.Random(programs)  # noqa: S311 - a workload, no secret
    sizes = [dice.randint(CONTEXT_TOKENS // 6, 2 * CONTEXT_TOKENS - CONTEXT_TOKENS // 6) for _ in range(programs)]
    now, calls = 0.0, 0
    running: list[str] = []
    acting: list[int] = []
    seen: set[int] = set()
    owner: dict[str, int] = {}

    spent = 0.0

    def submit(event: ev.Event) -> list[Effect]:
        nonlocal spent
        began = time.process_time()
        effects = scheduler.handle(event, now)
        spent += time.process_time() - began
        running.extend(e.call for e in effects if isinstance(e, Admit))
        return effects

    for number in range(workers):
        submit(ev.WorkerUp(f"w{number}", capacity, 20_000.0))

    def call(program: int) -> list[Effect]:
        nonlocal calls
        calls += 1
        owner[f"c{calls}"] = program
        return submit(ev.CallArrived(f"c{calls}", f"p{program}", sizes[program]))

    for program in range(programs):
        call(program)
    gc.collect()
    gc.freeze()
    decisions, done = 0, 0
    pick = [dice.random() for _ in range(4096)]
    spent = 0.0
    while done < events:
        now += EVENT_EVERY_S / programs
        chance = pick[done % len(pick)]
        if running and (chance < 0.5 or not acting):
            ended = _take(running, chance * 2)
            program = owner.pop(ended)
            sizes[program] = sizes[program] + 50 if sizes[program] < 2 * CONTEXT_TOKENS else CONTEXT_TOKENS // 6
            cached = sizes[program] - 50 if program in seen else 0
            seen.add(program)
            effects = submit(ev.CallFinished(ended, sizes[program], cached, 20))
            acting.append(program)
        elif acting:
            effects = call(_take(acting, chance))
        else:
            effects = submit(ev.Timer())
        decisions += sum(not isinstance(e, Admit) for e in effects)
        done += 1
    gc.unfreeze()
    spent -= events * _clock_s()
    return Speed(policy, programs, workers, events, events / spent, 1e6 * spent / events, decisions)


def _clock_s() -> float:
    """What one reading of the clock costs: each event's time holds one, and on a virtual machine that is a tenth."""
    began = time.process_time()
    for _ in range(CLOCK_READINGS):
        time.process_time()
    return (time.process_time() - began) / CLOCK_READINGS


def _take(found: list[T], share: float) -> T:
    """One of ``found``, taken out in O(1)."""
    index = int(share * len(found)) % len(found)
    found[index], found[-1] = found[-1], found[index]
    return found.pop()


@app.command("scheduler")
def scheduler_command(
    programs: Annotated[str, typer.Option("--programs", help="Numbers of programs.")] = "100,1000,10000,100000",
    workers: Annotated[str, typer.Option("--workers", help="Numbers of workers.")] = "1,64",
    policies: Annotated[str, typer.Option("--policies", help="Policies, options as in thunder:fill=0.9.")] = "thunder",
    events: Annotated[int, typer.Option("--events", min=1000, help="Events timed for each setting.")] = 100_000,
    as_json: AsJson = False,
) -> None:
    """Time the scheduler's decisions under pressure: twice as many contexts as the workers hold.

    Everything is counted that the core does between an event and its effects; calls end, tools run and calls come
    back at random. Processor time of one core.

    \b
    Examples:
      thunderctl bench scheduler
      thunderctl bench scheduler --programs 1000,100000 --workers 1 --policies thunder,paper --json
    """
    settings = [
        (policy, count, fleet)
        for policy in _texts(policies)
        for fleet in _counts(workers)
        for count in _counts(programs)
    ]
    with ticker() as tell:
        found = []
        for policy, count, fleet in settings:
            tell(f"{policy}: {count} programs on {fleet} workers")
            found.append(measure(policy, count, fleet, events))
    if as_json:
        print_json({"schema": 1, "speeds": [asdict(speed) for speed in found]})
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("policy")
    for name in ("programs", "workers", "events/s", "µs an event", "pauses and placements"):
        table.add_column(name, justify="right")
    for s in found:
        table.add_row(
            s.policy,
            f"{s.programs:,}",
            str(s.workers),
            f"{s.events_per_s:,.0f}",
            f"{s.mean_us:.1f}",
            f"{s.decisions:,}",
        )
    out.print(table)


# ------------------------------------------------------------------ what decisions are worth


@app.command("policies")
def policies_command(
    trace: TraceName = "coding",
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="Profile of the workers.", autocompletion=complete.profiles)
    ] = "emulated-h100x8-glm46",
    policies: Annotated[str, typer.Option("--policies", help="Policies; oracle is told the future.")] = POLICIES,
    loads: Annotated[str | None, typer.Option("--loads", help="Names of loads, separated by semicolons.")] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, max=100, help="Repeats. [default: 3]")] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", min=1, help="Seconds of virtual time each. [default: 1800]")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer loads, 600 s, one seed.")] = False,
    jobs: Jobs = 1,
    to: Annotated[Path | None, typer.Option("--out", "-o", help="File for the figures, as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate every policy under every load: below and above saturation, on one worker and several.

    \b
    Examples:
      thunderctl bench policies --quick
      thunderctl bench policies --trace mine.jsonl --jobs 8 --out policies.json
      thunderctl bench policies --loads "long tails;routing" --policies paper,thunder:fill=0.9,oracle
    """
    told = load_profile(profile, []).profile
    worker, _ = worker_of(told, None, None)
    about = load_trace(find_trace(trace))
    names = [load.name for load in LOADS]
    wanted = [name.strip() for name in loads.split(";")] if loads else names
    for name in wanted:
        if name not in names:
            raise UsageError(f"there is no load {name!r}", hint="loads: " + "; ".join(names))
    chosen = [load for load in LOADS if load.name in wanted and (load.quick or loads or not quick)]
    texts = _texts(policies, SIMULATED)
    lasts, repeats = duration or (600.0 if quick else 1800.0), seeds or (1 if quick else 3)
    trials = [
        Trial(load, policy, seed, lasts, about, worker)
        for load in chosen
        for policy in texts
        for seed in range(repeats)
    ]
    outcomes = []
    with ticker() as tell:
        for outcome in run_trials(trials, jobs):
            outcomes.append(outcome)
            tell(f"simulated {len(outcomes)} of {len(trials)}: {outcome.policy} under {outcome.load}")
    made = experiment.cells(outcomes)
    said = {"profile": told.name, "trace": about.name, "digest": about.digest, "duration_s": lasts, "seeds": repeats}
    if to is not None:
        write_whole(to, json.dumps(experiment.as_dict(outcomes, made, said), indent=1) + "\n")
    if as_json:
        print_json(experiment.as_dict(outcomes, made, said))
        return
    title = f"Simulated · {told.name} · trace {about.name} · {lasts:.0f} s, {repeats} seeds"
    out.print(experiment.table(made, title))


app.command("rollouts")(bench_rollout.rollouts)


# ------------------------------------------------------------------ lists on the command line


def _texts(text: str, kinds: Mapping[str, type[Policy]] = LIVE) -> list[str]:
    """The policies of a list; ``UsageError`` for one that is unknown."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        parse_policy(name, kinds)
    return list(dict.fromkeys(names))


def _counts(text: str) -> Iterable[int]:
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part.isdecimal() or not 1 <= int(part) <= 1_000_000:
            raise UsageError(f"numbers from 1 to 1,000,000 with commas between are wanted, not {part!r}")
    return [int(part) for part in parts]
