"""What a simulation found over numbers of agents and policies: figures side by side, and what they say in a sentence.

Nothing here simulates and nothing draws; ``cli/simulate.py`` does the one, ``plots.py`` the other. Every text that a
person may see says that the figures are simulated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from thunderctl.report.tables import seconds

SCHEMA = 1
"""Version of ``simulate.json``."""
PAPER_MODEL, PAPER_AGENTS, PAPER_RATIO = "glm-4.6-fp8", 96, 2.65
"""Steps/min of ThunderAgent over vLLM's at so many agents, with GLM-4.6 on 8 × H100 (arXiv 2602.13692)."""
STEPS_WITHIN, HIT_RATE_WITHIN = 0.10, 0.05
"""A simulation agrees with a measurement if steps/min differ by at most a tenth, and hit rates by 5 points."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One setting that was simulated."""

    agents: int
    policy: str
    """As it was asked for, options included: ``baseline:route=least-loaded``."""
    summary: dict[str, Any]
    """As ``report/stats.py`` makes it of any run."""
    preemptions: int
    memory: dict[str, list[tuple[float, float]]]
    """Of each worker: seconds, and the share of its KV capacity that programs placed there take."""
    wall_s: float
    """What the simulation itself took."""

    @property
    def steps_per_min(self) -> float:
        return float(self.summary["throughput"]["steps_per_min"])

    @property
    def hit_rate(self) -> float:
        return float(self.summary["hit_rate"])

    @property
    def imbalance(self) -> float:
        """Fullest worker less emptiest, as shares of their capacity: mean over time."""
        return float(self.summary["imbalance"]["mean"])


@dataclass(frozen=True, slots=True)
class Sweep:
    """All settings of one command: same workers, same trace, same start."""

    profile: str
    model: str | None
    """The catalogue's name of the model; None for measured costs."""
    trace: str
    digest: str
    workers: int
    kv_tokens: int
    """Of each worker."""
    duration_s: float | None
    programs: int | None
    start: str
    seed: int
    outcomes: tuple[Outcome, ...]

    @property
    def agents(self) -> list[int]:
        return sorted({o.agents for o in self.outcomes})

    @property
    def policies(self) -> list[str]:
        """In the order in which they were asked for; the first one is the base of all ratios."""
        return list(dict.fromkeys(o.policy for o in self.outcomes))

    def of(self, policy: str) -> list[Outcome]:
        """The outcomes of one policy by number of agents."""
        return sorted((o for o in self.outcomes if o.policy == policy), key=lambda o: o.agents)

    def at(self, agents: int, policy: str) -> Outcome:
        return next(o for o in self.outcomes if o.agents == agents and o.policy == policy)

    def ratio(self, outcome: Outcome) -> float | None:
        """Steps/min to those of the first policy with as many agents; None where that one made no step."""
        base = self.at(outcome.agents, self.policies[0]).steps_per_min
        return outcome.steps_per_min / base if base else None

    @property
    def title(self) -> str:
        length = f"{self.duration_s:.0f} s" if self.duration_s is not None else f"{self.programs} programs"
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''} of {self.kv_tokens:,} KV tokens"
        return f"Simulated · {self.profile} · {workers} · trace {self.trace} · {length}, {self.start} start"

    def as_dict(self) -> dict[str, Any]:
        """What ``simulate.json`` holds."""
        said = asdict(self)
        said["outcomes"] = [{**asdict(o), "ratio": self.ratio(o)} for o in self.outcomes]
        head = headline(self)
        return {"schema": SCHEMA, "simulated": True, "headline": head.sentence, "paper": paper_note(self), **said}


@dataclass(frozen=True, slots=True)
class Headline:
    """What a reader should take away: a sentence, and three figures with what they are."""

    sentence: str
    figures: tuple[tuple[str, str], tuple[str, str], tuple[str, str]]


def headline(sweep: Sweep) -> Headline:
    """Of the largest number of agents: the best policy against the first one."""
    agents, base_name = sweep.agents[-1], sweep.policies[0]
    base = sweep.at(agents, base_name)
    others = [sweep.at(agents, name) for name in sweep.policies[1:]]
    if not others:
        return Headline(
            f"Simulated: {agents} agents under {base_name} make {base.steps_per_min:.0f} steps a minute; "
            f"{100 * base.hit_rate:.0f}% of their prompt tokens are in the cache.",
            (
                (f"{base.steps_per_min:.0f}", f"steps/min at {agents} agents, {base_name}"),
                (f"{base.hit_rate:.2f}", "cache hit rate"),
                (seconds(base.summary["latency_s"]["p90"]), "latency p90"),
            ),
        )
    best = max(others, key=lambda o: o.steps_per_min)
    ratio = sweep.ratio(best)
    times = f"{ratio:.2f}×" if ratio is not None else "–"
    return Headline(
        f"Simulated: at {agents} agents {best.policy} makes {times} the steps of {base_name} "
        f"({best.steps_per_min:.0f} against {base.steps_per_min:.0f} a minute), with a cache hit rate of "
        f"{best.hit_rate:.2f} against {base.hit_rate:.2f}.",
        (
            (times, f"steps/min of {best.policy} ÷ {base_name} at {agents} agents"),
            (f"{best.steps_per_min:.0f}", f"steps/min of {best.policy} ({base_name}: {base.steps_per_min:.0f})"),
            (f"{best.hit_rate:.2f}", f"cache hit rate of {best.policy} ({base_name}: {base.hit_rate:.2f})"),
        ),
    )


def paper_note(sweep: Sweep) -> str | None:
    """The ratio beside the paper's, where model and number of agents are the paper's; else None."""
    base = sweep.policies[0]
    same = sweep.model == PAPER_MODEL and sweep.workers == 1 and PAPER_AGENTS in sweep.agents
    if not same or not base.startswith("baseline"):
        return None
    found = [(name, sweep.ratio(sweep.at(PAPER_AGENTS, name))) for name in sweep.policies[1:]]
    ratios = ", ".join(f"{name} {value:.2f}×" for name, value in found if value is not None)
    if not ratios:
        return None
    return (
        f"Simulated, at {PAPER_AGENTS} agents, over {base}: {ratios}. ThunderAgent's paper (arXiv 2602.13692) measured "
        f"{PAPER_RATIO}× over vLLM with this model on real GPUs. The two are not the same experiment: our trace, our "
        "model of the engine's time and our baseline (vLLM's rules, each program kept on its worker) differ from "
        "theirs, so compare the shape of the curves, not the digits."
    )


def preemptions_of(samples: Iterable[dict[str, Any]]) -> int:
    """Requests that the engines preempted between the first and the last sample of each."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for sample in samples:
        count = int(sample["engine"]["preemptions"])
        first.setdefault(sample["worker"], count)
        last[sample["worker"]] = count
    return sum(last[name] - first[name] for name in first)


def memory_of(samples: Iterable[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Of each worker, over time: tokens of the programs placed there ÷ its KV capacity. Above 1: they do not fit."""
    found: dict[str, list[tuple[float, float]]] = {}
    for sample in samples:
        share = (sample["reasoning_tokens"] + sample["acting_tokens"]) / sample["capacity_tokens"]
        found.setdefault(sample["worker"], []).append((float(sample["at"]), share))
    return found


def columns(sweep: Sweep) -> list[str]:
    """Heads of the table."""
    first = ["agents", "policy", "steps /min", "ratio", "hit rate", "pauses", "p50, s", "p90, s", "thrown out"]
    return [*first, *(["imbalance"] if sweep.workers > 1 else []), "took, s"]


def cells(sweep: Sweep, outcome: Outcome) -> list[str]:
    """One row of the table."""
    ratio, latency = sweep.ratio(outcome), outcome.summary["latency_s"]
    row = [
        str(outcome.agents),
        outcome.policy,
        f"{outcome.steps_per_min:.1f}",
        "–" if ratio is None else f"{ratio:.2f}×",
        f"{outcome.hit_rate:.3f}",
        str(outcome.summary["scheduler"]["pauses"]),
        f"{latency['p50']:.1f}",
        f"{latency['p90']:.1f}",
        str(outcome.preemptions),
    ]
    if sweep.workers > 1:
        row.append(f"{outcome.imbalance:.2f}")
    return [*row, f"{outcome.wall_s:.1f}"]


def legend(sweep: Sweep) -> str:
    """What the columns are that do not say it themselves."""
    uneven = "imbalance: fullest less emptiest worker, as shares of capacity; " if sweep.workers > 1 else ""
    return (
        f"ratio: steps/min to those of {sweep.policies[0]} with as many agents; p50, p90: latency of a model call; "
        f"thrown out: requests that the engine preempted; {uneven}took: the simulation itself"
    )


def sweep_table(sweep: Sweep) -> RenderableType:
    """Numbers of agents × policies."""
    table = Table(box=None, pad_edge=False, padding=(0, 1 if sweep.workers > 1 else 2, 0, 0), header_style="dim")
    for name in columns(sweep):
        if name == "policy":
            table.add_column(name, overflow="fold", min_width=9)
        else:
            table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for agents in sweep.agents:
        for policy in sweep.policies:
            table.add_row(*map(Text, cells(sweep, sweep.at(agents, policy))))
        table.add_row()
    return Group(Text(sweep.title, style="bold"), table, Text(legend(sweep), style="dim"))


@dataclass(frozen=True, slots=True)
class Agreement:
    """A run that was measured, and the same work simulated."""

    run: str
    kind: str
    policy: str
    agents: int
    measured: dict[str, Any]
    simulated: dict[str, Any]
    """Summaries, both."""

    @property
    def steps_apart(self) -> float:
        """Simulated steps/min relative to measured ones, less 1."""
        measured = self.measured["throughput"]["steps_per_min"]
        return float(self.simulated["throughput"]["steps_per_min"] / measured - 1) if measured else 0.0

    @property
    def hit_rate_apart(self) -> float:
        return float(self.simulated["hit_rate"] - self.measured["hit_rate"])

    @property
    def agrees(self) -> bool:
        return abs(self.steps_apart) <= STEPS_WITHIN and abs(self.hit_rate_apart) <= HIT_RATE_WITHIN

    def as_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "steps_apart": self.steps_apart,
            "hit_rate_apart": self.hit_rate_apart,
            "agrees": self.agrees,
        }


def agreement_table(found: Sequence[Agreement]) -> RenderableType:
    """Measured, simulated and the difference, one run a row."""
    table = Table(pad_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("policy")
    for name in ("agents", "steps/min measured", "simulated", "difference", "hit rate measured", "simulated"):
        table.add_column(name, justify="right")
    table.add_column("difference", justify="right")
    for a in found:
        table.add_row(
            Text(a.run),
            Text(a.policy),
            str(a.agents),
            f"{a.measured['throughput']['steps_per_min']:.1f}",
            f"{a.simulated['throughput']['steps_per_min']:.1f}",
            Text(f"{100 * a.steps_apart:+.1f}%", style="" if abs(a.steps_apart) <= STEPS_WITHIN else "yellow"),
            f"{a.measured['hit_rate']:.3f}",
            f"{a.simulated['hit_rate']:.3f}",
            Text(
                f"{100 * a.hit_rate_apart:+.1f} points",
                style="" if abs(a.hit_rate_apart) <= HIT_RATE_WITHIN else "yellow",
            ),
        )
    good = sum(a.agrees for a in found)
    verdict = (
        f"{good} of {len(found)} runs agree: steps/min within {STEPS_WITHIN:.0%} and hit rate within "
        f"{100 * HIT_RATE_WITHIN:.0f} points"
    )
    return Group(Text("Simulated beside measured: the same work", style="bold"), table, Text(verdict))
