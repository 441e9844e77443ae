"""``plan``: how many workers of which kind, and how many agents on each, reach a target. Found by simulation alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from thunderctl.cli.show import AsJson, out, print_json, ticker
from thunderctl.cli.simulate import Jobs, Seed, TraceName
from thunderctl.cli.simulated import Setting, make_worker, parse_policy, run_all
from thunderctl.errors import UsageError
from thunderctl.report.sweep import Outcome
from thunderctl.sim.worker import SimWorker
from thunderctl.traces.load import find_trace, load_trace
from thunderctl.traces.stats import trace_stats
from thunderctl.workers import catalogue

CARDS = (1, 2, 4, 8)
"""Tensor-parallel sizes that are tried where nobody names one."""
SHARES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Numbers of agents that are tried first, in units of what fits the KV cache in mid-life."""
STRETCH, MOST_STRETCHES = 1.5, 8
"""As long as the largest number is the best one, it is raised by this factor, so many times at most."""
AT_WORK = 0.75
"""Agents that are held for more than the rest of their time are too many, whatever the throughput says: within a short
simulation it even rises with their number, for a policy that prefers short contexts then has more of them to choose
from (176 steps/min at 34 agents, 203 in the first five minutes of 204, of which most never get their turn)."""
NEAR_BEST = 0.97
"""The fewest agents that reach this share of the best throughput are the answer: more of them only wait longer."""
ENOUGH = 0.95
"""A target in agents is reached if each makes this share of the steps that it makes on a single worker."""
MOST_REPAIRS = 4
"""Workers that are added, one by one, where the reckoned number falls short."""
MOST_WORKERS = 1024


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of worker that holds the model."""

    name: str
    cards: int
    worker: SimWorker


@dataclass(frozen=True, slots=True)
class Answer:
    """What one kind of worker needs for the target. Everything simulated."""

    kind: str
    cards_per_worker: int
    kv_tokens: int
    tried: tuple[tuple[int, float, float], ...]
    """Agents on one worker, the steps/min they made, and the share of their time at work."""
    agents_per_worker: int
    steps_per_min_per_worker: float
    workers: int
    cards: int
    agents: int
    reached: bool
    steps_per_min: float
    hit_rate: float
    latency_p90_s: float
    failed: int
    """Programs whose context is too long for such a worker."""


def plan(
    trace: TraceName = "coding",
    steps: Annotated[
        float | None, typer.Option("--target-steps-per-min", min=0.1, help="Model calls, with their tools, a minute.")
    ] = None,
    agents: Annotated[
        int | None, typer.Option("--target-agents", min=1, max=100_000, help="Agents that work at once.")
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option("--gpus", help="Kinds of workers as GPU:CARDS, with commas. [default: each GPU, fewest cards]"),
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="A model of the catalogue.")] = "glm-4.6-fp8",
    policy: Annotated[str, typer.Option("--policy", help="Scheduling policy; options as in simulate.")] = "thunder",
    duration: Annotated[float, typer.Option("--duration", min=30, help="Seconds that each simulation covers.")] = 600,
    seed: Seed = 0,
    jobs: Jobs = 1,
    as_json: AsJson = False,
) -> None:
    """Say how many GPUs a load takes: simulate each kind of worker, find its best concurrency, check the sum.

    Examples:

        thunderctl plan --trace coding --target-steps-per-min 500
        thunderctl plan --trace mine.jsonl --target-agents 256 --gpus h100-sxm:8,h200:4 --model glm-4.6-fp8
    """
    if (steps is None) == (agents is None):
        raise UsageError("say either --target-steps-per-min or --target-agents")
    parse_policy(policy)
    catalogue.find_model(model)
    found = load_trace(find_trace(trace))
    kinds, misfits = kinds_of(gpus, model)
    held = trace_stats(found)["figures"]["resident_tokens"]["mean"]
    base = Setting(
        trace=found,
        workers=(),
        policy=policy,
        agents=1,
        duration_s=duration,
        programs=None,
        start="steady",
        seed=seed,
    )
    answers = []
    with ticker() as tell:
        for kind in kinds:
            try:
                answers.append(_answer(kind, base, held, steps, agents, jobs, tell))
            except UsageError as error:
                misfits[kind.name] = error.message
    answers.sort(key=lambda a: (not a.reached, a.cards, -a.steps_per_min))
    sentence = conclusion(answers, model, policy, found.name, steps, agents)
    if as_json:
        print_json(
            {
                "simulated": True,
                "answer": sentence,
                "target_steps_per_min": steps,
                "target_agents": agents,
                "kinds": [asdict(a) for a in answers],
                "does_not_fit": misfits,
            }
        )
        return
    if answers:
        out.print(Text(f"Simulated · {model} · trace {found.name} · policy {policy} · {duration:.0f} s", style="bold"))
        out.print(_table(answers))
    for a in answers:
        if a.failed:
            out.print(Text(f"{a.kind}: {a.failed} programs failed: a context too long for a worker is refused"))
    for name, reason in misfits.items():
        out.print(Text(f"{name}: {reason}", style="dim"), soft_wrap=True)
    out.print(Text(sentence, style="bold"))


def kinds_of(gpus: str | None, model: str) -> tuple[list[Kind], dict[str, str]]:
    """Workers that hold the model, and of the others why they do not.

    ``gpus``: ``h100-sxm:8,h200:4``; without it every GPU of the catalogue in the fewest cards that will do.
    """
    kinds: dict[str, Kind] = {}
    misfits: dict[str, str] = {}
    for gpu, sizes in _asked(gpus):
        for cards in sizes:
            name = f"{cards} × {gpu}"
            try:
                kinds[name] = Kind(name, cards, _worker(gpu, model, cards))
                break
            except UsageError as error:
                misfits[name] = error.message
    return list(kinds.values()), misfits


def _asked(gpus: str | None) -> list[tuple[str, tuple[int, ...]]]:
    """GPUs with the numbers of cards to try, in this order."""
    if gpus is None:
        return [(gpu, CARDS) for gpu in catalogue.GPUS]
    asked: list[tuple[str, tuple[int, ...]]] = []
    for part in gpus.split(","):
        gpu, _, cards = part.strip().partition(":")
        catalogue.find_gpu(gpu)
        if cards and (not cards.isdecimal() or int(cards) < 1):
            raise UsageError(f"--gpus: {part!r} is no GPU:CARDS", hint="for instance h100-sxm:8,h200:1")
        asked.append((gpu, (int(cards),) if cards else CARDS))
    return asked


def _worker(gpu: str, model: str, cards: int) -> SimWorker:
    capacity = catalogue.kv_capacity_tokens(gpu, model, cards)
    cost = catalogue.step_cost(gpu, model, cards)
    return make_worker(cost, capacity, 16, 256, 8192, catalogue.find_model(model).context_length)


def _answer(
    kind: Kind,
    base: Setting,
    held: float,
    steps: float | None,
    agents: int | None,
    jobs: int,
    tell: Callable[[str], None],
) -> Answer:
    """``held``: tokens that an agent in mid-life keeps in the cache."""
    alone = replace(base, workers=(kind.worker,))
    best, tried = _best_concurrency(
        alone, kind.worker.kv_tokens / held, jobs, lambda text: tell(f"{kind.name}: {text}")
    )
    wanted = steps / best.steps_per_min if steps is not None else (agents or 0) / best.agents
    count = max(1, math.ceil(wanted))
    if count > MOST_WORKERS:
        raise UsageError(f"{count:,} workers of {kind.name} would be needed: more than is simulated here")
    for extra in range(MOST_REPAIRS + 1):
        workers = count + extra
        crew = agents or best.agents * workers
        tell(f"{kind.name}: checking {workers} workers with {crew} agents")
        (whole,) = run_all([replace(base, workers=(kind.worker,) * workers, agents=crew)], 1, lambda text: None)
        goal = steps if steps is not None else ENOUGH * crew * best.steps_per_min / best.agents
        if whole.steps_per_min >= goal:
            break
    return Answer(
        kind=kind.name,
        cards_per_worker=kind.cards,
        kv_tokens=kind.worker.kv_tokens,
        tried=tuple((o.agents, o.steps_per_min, share_at_work(o)) for o in tried),
        agents_per_worker=math.ceil(crew / workers),
        steps_per_min_per_worker=best.steps_per_min,
        workers=workers,
        cards=workers * kind.cards,
        agents=crew,
        reached=whole.steps_per_min >= goal,
        steps_per_min=whole.steps_per_min,
        hit_rate=whole.hit_rate,
        latency_p90_s=whole.summary["latency_s"]["p90"],
        failed=whole.summary["agents"]["by_status"].get("failed", 0),
    )


def _best_concurrency(
    alone: Setting, fitting: float, jobs: int, tell: Callable[[str], None]
) -> tuple[Outcome, list[Outcome]]:
    """The fewest agents on one worker that come near the best throughput, and everything that was tried."""
    numbers = sorted({max(1, round(fitting * share)) for share in SHARES})
    tried = run_all([replace(alone, agents=number) for number in numbers], jobs, tell)
    for _ in range(MOST_STRETCHES):
        last = tried[-1]
        if share_at_work(last) < AT_WORK or last is not max(tried, key=lambda o: o.steps_per_min):
            break
        tried += run_all([replace(alone, agents=math.ceil(last.agents * STRETCH))], 1, tell)
    busy = [o for o in tried if share_at_work(o) >= AT_WORK] or tried[:1]
    top = max(o.steps_per_min for o in busy)
    if not top:
        raise UsageError(f"no step of the trace ended within {alone.duration_s:.0f} simulated seconds")
    return next(o for o in busy if o.steps_per_min >= NEAR_BEST * top), tried


def share_at_work(outcome: Outcome) -> float:
    """Share of the agents' time in calls that are not held, and in tools. A little low: only steps that ended count."""
    s = outcome.summary
    spent = s["throughput"]["steps"] * s["latency_without_pauses_s"]["mean"] + s["tool_s"]["total"]
    return float(spent / (outcome.agents * s["window_s"])) if s["window_s"] else 0.0


def conclusion(
    answers: list[Answer], model: str, policy: str, trace: str, steps: float | None, agents: int | None
) -> str:
    """The answer as a sentence: the fewest cards. Cards of different kinds are counted alike; prices are not known."""
    target = f"{steps:g} steps/min" if steps is not None else f"{agents} agents"
    reached = [a for a in answers if a.reached]
    if not reached:
        why = "no kind of worker holds the model" if not answers else "none of these kinds reached it"
        return f"Simulated: no answer for {target} with {model} on trace {trace}: {why}."
    best = reached[0]
    plural = "s" if best.workers > 1 else ""
    return (
        f"Simulated: the fewest cards for {target} with {model} on trace {trace} are {best.cards}: {best.workers} "
        f"worker{plural} of {best.kind} with {best.agents_per_worker} agents on each, {best.steps_per_min:.0f} "
        f"steps/min in all, a cache hit rate of {best.hit_rate:.2f}, under policy {policy}."
    )


def _table(answers: list[Answer]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("worker", no_wrap=True)
    heads = (
        "KV\ntokens",
        "agents\na worker",
        "steps/min\na worker",
        "workers",
        "cards",
        "steps/min\nin all",
        "hit\nrate",
        "p90,\ns",
    )
    for name in (*heads, ""):
        table.add_column(name, justify="right", no_wrap=True)
    for a in answers:
        table.add_row(
            a.kind,
            f"{a.kv_tokens / 1000:,.0f}k",
            str(a.agents_per_worker),
            f"{a.steps_per_min_per_worker:.1f}",
            str(a.workers),
            str(a.cards),
            f"{a.steps_per_min:.1f}",
            f"{a.hit_rate:.2f}",
            f"{a.latency_p90_s:.1f}",
            "" if a.reached else "short",
        )
    return table
