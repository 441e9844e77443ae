"""What the command lines of ``run`` and ``compare`` say about the work, and the plan that it comes to.

Everything about the work that can be wrong is found out here, before anything starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from thunderctl.agents.routing_models import check_models
from thunderctl.agents.routing_search import load_corpus
from thunderctl.cli import complete
from thunderctl.cli.dataset import absolute, load_dataset
from thunderctl.cli.show import err
from thunderctl.errors import PreflightError, UsageError, WorkloadError
from thunderctl.profile_files import ResolvedProfile
from thunderctl.runs.shape import Shape, Warmup, choose, parse_arrival, parse_warmup
from thunderctl.runs.tasks import TaskPlan, choose_tasks
from thunderctl.runs.trace import TracePlan, longest_call
from thunderctl.traces.load import find_trace, list_traces, load_trace, make_trace
from thunderctl.workload.base import Task, Workload
from thunderctl.workload.load import find_workload, kind_of, load_tasks, load_workload
from thunderctl.workload.routing import LatencyName, RoutingTask, RoutingWorkload, equipped

LOOK_AHEAD_SHARE = 4
"""One environment is prepared for those that come next for so many places."""


class Start(StrEnum):
    """Where the agents of a trace begin."""

    fresh = "fresh"
    steady = "steady"


WorkloadName = Annotated[
    str,
    typer.Argument(
        help="Bundled workload (swebench), a folder of your own, or trace (with --trace).",
        autocompletion=complete.workloads,
    ),
]
Agents = Annotated[
    int | None,
    typer.Option("--agents", "-n", min=1, max=4096, help="How many work at once; with --arrival: at most."),
]
Live = Annotated[bool, typer.Option("--live/--replay", help="Let the model decide, or force the recorded answers.")]
Tasks = Annotated[list[str] | None, typer.Option("--task", help="Only this task; may be repeated.")]
MaxSteps = Annotated[
    int | None, typer.Option("--max-steps", min=1, help="End each agent after so many steps: a shorter run.")
]
Judge = Annotated[bool, typer.Option("--judge/--no-judge", help="Have what was handed in judged afterwards.")]
TraceName = Annotated[
    str | None,
    typer.Option(
        "--trace",
        help="For trace: a bundled trace (coding, routing, science), or a file.",
        autocompletion=complete.traces,
    ),
]
Programs = Annotated[
    int | None,
    typer.Option("--tasks", "--programs", min=1, help="End after so many tasks (programs) in all; else one an agent."),
]
Duration = Annotated[
    float | None,
    typer.Option("--duration", min=1, help="Agents take one task after the other for so many (emulated) seconds."),
]
StartAt = Annotated[
    Start | None,
    typer.Option("--start", help="For trace: agents begin at first steps (fresh, default), or amid programs (steady)."),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Of everything that is drawn by chance; default 0.")]
Ramp = Annotated[float | None, typer.Option("--ramp", min=0, help="Agents begin one by one over so many seconds.")]
Arrival = Annotated[
    str | None,
    typer.Option(
        "--arrival",
        metavar="poisson:RATE",
        help="Open loop: agents arrive at random, RATE a minute, done or not; --agents is then the cap.",
    ),
]
MaxDuration = Annotated[
    float | None, typer.Option("--max-duration", min=1, help="Cut the run off after so many seconds at the latest.")
]
WarmUp = Annotated[
    str | None,
    typer.Option("--warmup", metavar="S|P%", help="Leave so many seconds, or that share, out of the figures."),
]
Part = Annotated[str | None, typer.Option("--slice", metavar="A:B", help="Only these tasks, counted from 0.")]
Pattern = Annotated[str | None, typer.Option("--filter", metavar="GLOB", help="Only tasks whose name matches.")]
Shuffle = Annotated[
    bool, typer.Option("--shuffle", help="Tasks in a random order, by --seed; --slice cuts afterwards.")
]
MaxErrors = Annotated[
    float | None,
    typer.Option("--max-error-rate", min=0, max=1, help="End the run once more than this share of agents failed."),
]

ToolLatency = Annotated[
    LatencyName | None,
    typer.Option("--tool-latency", help="Routing: seconds that tools take on top of their own; default none."),
]
Corpus = Annotated[
    Path | None,
    typer.Option("--corpus", exists=True, dir_okay=False, help="Routing: passages (JSON lines) to search in."),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line says about the work. Options that were not given are ``None``, empty or false."""

    workload: str
    agents: int | None
    live: bool
    dataset: str | None
    only: list[str] | None
    judge: bool
    max_steps: int | None
    trace: str | None
    programs: int | None
    """``--tasks``, or by its other name ``--programs``."""
    duration_s: float | None
    start: Start | None
    seed: int | None
    ramp_s: float | None = None
    arrival: str | None = None
    max_duration_s: float | None = None
    warmup: str | None = None
    part: str | None = None
    pattern: str | None = None
    shuffle: bool = False
    max_error_rate: float | None = None
    strict: bool = False
    tool_latency: LatencyName | None = None
    corpus: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """As the manifest has it: wherever it is read again, files are found."""
        said = asdict(self)
        if self.dataset is not None:
            said["dataset"] = absolute(self.dataset)
        if self.corpus is not None:
            said["corpus"] = str(self.corpus.expanduser().absolute())
        if "/" in self.workload or self.workload in (".", ".."):
            said["workload"] = str(Path(self.workload).expanduser().absolute())
        if self.trace is not None:
            said["trace"] = str(find_trace(self.trace).absolute())
        return said

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Asked:
        known = {each.name: said[each.name] for each in fields(cls) if each.name in said}
        known["start"] = Start(known["start"]) if known.get("start") else None
        known["corpus"] = Path(known["corpus"]) if known.get("corpus") else None
        return cls(**known)


def make_plan(asked: Asked, resolved: ResolvedProfile, *, cut_to_fit: bool = False) -> TaskPlan | TracePlan:
    """What there is to do; ``UsageError``, ``WorkloadError`` or ``PreflightError`` if it cannot be done.

    ``cut_to_fit``: programs of a trace end where the model's context does, so none is too long.
    """
    if asked.workload == "trace":
        _refuse_options(asked.workload, {
            "--live": asked.live, "--dataset": asked.dataset, "--strict": asked.strict,
            "--task": asked.only, "--max-steps": asked.max_steps,
            "--shuffle": asked.shuffle, "--tool-latency": asked.tool_latency, "--corpus": asked.corpus,
        })  # fmt: skip
        return _trace_plan(asked, resolved, cut_to_fit=cut_to_fit)
    _refuse_options(asked.workload, {"--trace": asked.trace, "--start": asked.start})
    if asked.strict and asked.dataset is None:
        raise UsageError("--strict is about the rows of --dataset")
    return _task_plan(asked, resolved)


def _refuse_options(workload: str, given: dict[str, object]) -> None:
    """``UsageError`` for the first option that means nothing for this workload."""
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} says nothing about workload {workload!r}")


def _shape(asked: Asked) -> Shape:
    if asked.programs is not None and asked.duration_s is not None:
        raise UsageError("--tasks (or --programs) and --duration both say when the run ends: say one of them")
    if asked.ramp_s and asked.arrival is not None:
        raise UsageError("--ramp and --arrival both say when agents begin: say one of them")
    warmup = parse_warmup(asked.warmup) if asked.warmup is not None else Warmup()
    lasts = min((x for x in (asked.duration_s, asked.max_duration_s) if x is not None), default=None)
    for option, seconds in (("--ramp", asked.ramp_s or 0.0), ("--warmup", warmup.seconds)):
        if lasts is not None and seconds >= lasts:
            raise UsageError(f"{option} is {seconds:g} s, and the run ends after {lasts:g} s")
    return Shape(
        ramp_s=asked.ramp_s or 0.0,
        arrivals_per_min=parse_arrival(asked.arrival) if asked.arrival is not None else None,
        max_duration_s=asked.max_duration_s,
        warmup=warmup,
        seed=asked.seed or 0,
    )


def _need_replay(resolved: ResolvedProfile, what: str, hint: str) -> None:
    if not resolved.profile.can_replay:
        raise PreflightError(
            f"profile {resolved.profile.name!r} loads no replay processor, so {what} cannot be forced", hint=hint
        )


def _task_plan(asked: Asked, resolved: ResolvedProfile) -> TaskPlan:
    profile, shape = resolved.profile, _shape(asked)
    folder = find_workload(asked.workload)
    loaded = load_workload(folder)
    tasks, refused = _rows(loaded, asked, resolved) if asked.dataset else (load_tasks(folder, loaded), [])
    kind = "live" if asked.live or (asked.dataset and not any(task.trajectory for task in tasks)) else "replay"
    if kind == "replay":
        _need_replay(resolved, "recorded answers", "add --live, or -c workers.replay=true")
    if isinstance(loaded, RoutingWorkload):
        loaded, tasks = _routing(loaded, tasks, kind, asked, resolved)
    else:
        _refuse_options(asked.workload, {"--tool-latency": asked.tool_latency, "--corpus": asked.corpus})
    agents = asked.agents or profile.runs.agents
    return TaskPlan(
        workload=_shortened(loaded, asked.max_steps),
        tasks=_chosen(choose_tasks(tasks, kind, asked.only), asked),
        agents=agents,
        kind=kind,
        judge=asked.judge,
        max_error_share=_error_share(asked, resolved),
        dataset=asked.dataset,
        refused=refused,
        rollouts=asked.programs,
        duration_s=asked.duration_s,
        shape=shape,
        look_ahead=min(profile.environments.prepare_ahead, -(-agents // LOOK_AHEAD_SHARE)),
        selection=_selection(asked),
    )


def _rows(workload: Workload, asked: Asked, resolved: ResolvedProfile) -> tuple[Sequence[Task], list[dict[str, Any]]]:
    """Tasks from a data set, and the rows that are left out: each is told, and the run goes on without it."""
    kind = kind_of(workload)
    assert asked.dataset is not None  # noqa: S101
    tasks = load_dataset(kind, asked.dataset, live=asked.live, strict=asked.strict)
    if resolved.profile.environments.backend == "local" and any(task.image for task in tasks):
        raise WorkloadError(f"{kind.dataset} live in Docker images; profile key environments.backend is 'local'")
    return tasks, [row.as_dict() for row in tasks.refused]


def _routing(
    workload: RoutingWorkload, tasks: Sequence[Task], kind: str, asked: Asked, resolved: ResolvedProfile
) -> tuple[RoutingWorkload, Sequence[Task]]:
    """With the profile's models in its roles, and the user's passages to search in."""
    models = resolved.profile.models
    if kind == "live":
        check_models(models)
    if asked.corpus is not None:
        load_corpus(asked.corpus)  # if it cannot be used, that is told now
        tasks = [replace(task, corpus=asked.corpus) for task in tasks if isinstance(task, RoutingTask)]
    return equipped(workload, models, tool_latency=asked.tool_latency, seed=asked.seed or 0), tasks


def _shortened(workload: Workload, max_steps: int | None) -> Workload:
    if max_steps is None:
        return workload
    limits = workload.limits.model_copy(update={"steps": max_steps})
    return workload.model_copy(update={"limits": limits})


def _chosen(tasks: Sequence[Task], asked: Asked) -> Sequence[Task]:
    named = [(task.instance_id, task) for task in tasks]
    return choose(
        named, pattern=asked.pattern, part=asked.part, shuffle=asked.shuffle, seed=asked.seed or 0, what="task"
    )


def _selection(asked: Asked) -> dict[str, Any]:
    """How the tasks were chosen, as the manifest has it."""
    return {"task": asked.only or [], "filter": asked.pattern, "slice": asked.part, "shuffle": asked.shuffle}


def _error_share(asked: Asked, resolved: ResolvedProfile) -> float:
    return resolved.profile.runs.max_error_share if asked.max_error_rate is None else asked.max_error_rate


def _trace_plan(asked: Asked, resolved: ResolvedProfile, *, cut_to_fit: bool) -> TracePlan:
    profile, shape = resolved.profile, _shape(asked)
    if asked.trace is None:
        bundled = ", ".join(path.stem for path in list_traces())
        raise UsageError("workload trace wants --trace", hint=f"a file, or a bundled one: {bundled}")
    _need_replay(resolved, "the tokens of a trace", "add -c workers.replay=true")
    file = find_trace(asked.trace)
    trace = load_trace(file)
    if asked.pattern is not None or asked.part is not None:
        named = [(program.id, program) for program in trace.programs]
        chosen = choose(named, pattern=asked.pattern, part=asked.part, shuffle=False, seed=0, what="program")
        trace = make_trace(trace.name, chosen)
    longest = None if cut_to_fit else profile.model.max_model_len
    too_long = sum(longest_call(program) > longest for program in trace.programs) if longest else 0
    if too_long:
        said = f"{too_long} of {len(trace.programs)} programs are longer than model.max_model_len, {longest:,} tokens"
        if too_long > _error_share(asked, resolved) * len(trace.programs):
            raise WorkloadError(f"{file}: {said}", hint=f"profile {profile.name!r} cannot run this trace")
        err.print(f"[yellow]{said}: they will fail[/]", highlight=False, soft_wrap=True)
    return TracePlan(
        trace=trace,
        source=str(file.resolve()),
        agents=asked.agents or profile.runs.agents,
        max_error_share=_error_share(asked, resolved),
        programs=asked.programs,
        duration_s=asked.duration_s,
        start=asked.start.value if asked.start else "fresh",
        seed=asked.seed or 0,
        shape=shape,
        selection=_selection(asked),
    )
