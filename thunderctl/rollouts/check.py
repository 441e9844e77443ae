"""Every promise of a roll-out, looked at again from its stored files alone; and its rewards, judged anew.

What is wrong is named with its file, group, sample, segment and step; nothing is mended. That a prompt was exactly the
tokens before it is proved where the engine gave the prompt's ids back: their digest was stored with the call.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from thunderctl.agents.client import DaemonClient
from thunderctl.agents.desk import Desk
from thunderctl.agents.kinds import AGENTS
from thunderctl.agents.rollout import Ending, Rollout
from thunderctl.errors import UsageError
from thunderctl.rollouts.files import LINES, PARQUET, GroupFiles, read_lines, read_parquet
from thunderctl.rollouts.schema import BREAKS, NOT_THE_MODEL, STATUSES, Group, Sample, Segment, Turn, prefix_digests
from thunderctl.runs.tasks import JUDGES
from thunderctl.workload.base import Task, Workload

MOST_IDS = 2**31
READERS = {LINES: read_lines, PARQUET: read_parquet}


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that does not hold, and where."""

    what: str
    file: str = ""
    group: str = ""
    sample: int | None = None
    segment: int | None = None
    step: int | None = None

    def __str__(self) -> str:
        places = [f"group {self.group}"] if self.group else []
        for name in ("sample", "segment", "step"):
            if (value := getattr(self, name)) is not None:
                places.append(f"{name} {value}")
        return ": ".join(filter(None, (self.file, ", ".join(places), self.what)))


@dataclass(slots=True)
class Checked:
    """What was looked at, and what is wrong with it."""

    groups: int = 0
    samples: int = 0
    failed: int = 0
    """Samples that failed for good, or were cut off."""
    segments: int = 0
    calls: int = 0
    """Model calls with their tokens."""
    proved: int = 0
    """Those whose prompt is proved to be the tokens before it."""
    tokens: int = 0
    model_tokens: int = 0
    without_logprobs: int = 0
    """Segments for which the engine computed none."""
    breaks: Counter[str] = field(default_factory=Counter)
    """By reason: prompts that did not extend what was there."""
    versions: Counter[int] = field(default_factory=Counter)
    """Model tokens by version of the weights."""
    violations: list[Violation] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.violations

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        return {"ok": self.ok, **told, "violations": [asdict(violation) for violation in self.violations]}


def check(folder: Path) -> Checked:
    """Everything in a roll-out's folder. ``UsageError`` if it is none, or a newer thunderctl wrote it."""
    files, found = GroupFiles(folder), Checked()
    files.manifest()
    for path in files.torn():
        found.violations.append(Violation("it is torn: its end is missing", str(path.relative_to(folder))))
    seen: dict[str, int] = {}
    for entry in files.entries():
        forms: dict[str, Group] = {}
        for form, path in entry.files.items():
            name = str(path.relative_to(folder))
            try:
                group = forms[form] = READERS[form](path)
            except UsageError as error:
                found.violations.append(Violation(error.message.removeprefix(str(path)).lstrip(": "), name))
                continue
            if group.name != entry.name:
                found.violations.append(Violation(f"it holds group {group.name!r}", name))
            if form is LINES or LINES not in entry.files:
                found.violations += (replace(each, file=name) for each in wrong_in(group))
                _count(group, found)
        if len(forms) == 2 and forms[LINES] != forms[PARQUET]:
            found.violations.append(Violation("its two forms say different things", group=entry.name))
        if entry.name in seen:
            said = f"it is stored twice, as number {seen[entry.name]} and {entry.number}"
            found.violations.append(Violation(said, group=entry.name))
        seen[entry.name] = entry.number
    return found


def _count(group: Group, found: Checked) -> None:
    found.groups += 1
    for sample in group.samples:
        found.samples += 1
        found.failed += sample.status in ("failed", "cut off")
        found.breaks.update(sample.breaks)
        for segment in sample.segments:
            found.segments += 1
            found.calls += len(segment.turns)
            found.proved += sum(bool(turn.prompt_digest) for turn in segment.turns)
            found.tokens += len(segment.ids)
            found.without_logprobs += segment.logprobs is None
            found.versions.update(by for by, mask in zip(segment.versions, segment.mask, strict=False) if mask)
    found.model_tokens = found.versions.total()


# ---------------------------------------------------------------------- the promises


def wrong_in(group: Group) -> Iterator[Violation]:
    """What does not hold in a group."""
    if [sample.index for sample in group.samples] != sorted({sample.index for sample in group.samples}):
        yield Violation("its samples are not in order, each once", group=group.name)
    if group.dropped < 0:
        yield Violation(f"{group.dropped} samples were dropped", group=group.name)
    for sample in group.samples:
        for each in _wrong_in_sample(sample, group):
            yield replace(each, group=group.name, sample=sample.index)
        for number, segment in enumerate(sample.segments):
            for each in _wrong_in_segment(segment):
                yield replace(each, group=group.name, sample=sample.index, segment=number)


def _wrong_in_sample(sample: Sample, group: Group) -> Iterator[Violation]:
    if (sample.group, sample.task) != (group.name, group.task):
        yield Violation(f"it says that it is of group {sample.group!r} and task {sample.task!r}")
    if sample.index < 0 or sample.attempt < 1:
        yield Violation(f"index {sample.index}, attempt {sample.attempt}")
    if sample.status not in STATUSES:
        yield Violation(f"status {sample.status!r} is none of {', '.join(STATUSES)}")
    if sample.status == "failed" and not sample.error:
        yield Violation("it failed and does not say why")
    if not sample.started <= sample.ended:
        yield Violation(f"it ended at {sample.ended}, before it started at {sample.started}")
    for name, value in [("reward", sample.reward), *sample.parts.items()]:
        if value is not None and not math.isfinite(value):
            yield Violation(f"{name} is {value}")
    if len(sample.breaks) != max(0, len(sample.segments) - 1):
        yield Violation(f"{len(sample.breaks)} breaks between {len(sample.segments)} segments")
    for reason in set(sample.breaks) - set(BREAKS):
        yield Violation(f"break {reason!r} is none of {', '.join(BREAKS)}")
    last: Turn | None = None
    newest = 0
    for number, segment in enumerate(sample.segments):
        for turn in segment.turns:
            if turn.step <= (last.step if last else 0) and not (last and _continues(turn, last)):
                after = f"step {last.step}" if last else "nothing"
                yield Violation(f"it comes after {after}", segment=number, step=turn.step)
            if turn.step > sample.steps + 1:  # a sample that is cut off has a step that it did not end
                yield Violation(f"the sample has {sample.steps} steps", segment=number, step=turn.step)
            last = turn
        for place, by in enumerate(segment.versions):
            if by != NOT_THE_MODEL and by < newest:
                said = f"token {place} is of version {by}, and version {newest} was in force before it"
                yield Violation(said, segment=number, step=_step_at(segment, place))
                break
            newest = max(newest, by)


def _continues(turn: Turn, last: Turn) -> bool:
    """A call that goes on where a change of weights broke the one before off."""
    return (turn.step, turn.start, last.finish_reason) == (last.step, last.end, "abort")


def _wrong_in_segment(segment: Segment) -> Iterator[Violation]:
    ids, mask, versions, logprobs = segment.ids, segment.mask, segment.versions, segment.logprobs
    lengths = {"ids": len(ids), "mask": len(mask), "versions": len(versions)}
    if logprobs is not None:
        lengths["logprobs"] = len(logprobs)
    if len(set(lengths.values())) > 1:
        yield Violation("unequal lengths: " + ", ".join(f"{n} {name}" for name, n in lengths.items()))
        return
    answered = [0] * len(ids)
    yield from _wrong_in_turns(segment)
    for turn in segment.turns:
        answered[turn.start : turn.end] = [1] * len(answered[turn.start : turn.end])

    def at(places: Iterable[int], say: Callable[[int], str]) -> Iterator[Violation]:
        found = list(places)
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            yield Violation(f"token {found[0]}: {say(found[0])}{more}", step=_step_at(segment, found[0]))

    every = range(len(ids))
    yield from at((i for i in every if mask[i] not in (0, 1)), lambda i: f"mask {mask[i]}")
    yield from at(
        (i for i in every if mask[i] in (0, 1) and mask[i] != answered[i]),
        lambda i: f"mask {mask[i]}, and it is {'in' if answered[i] else 'outside'} an answer",
    )
    yield from at(
        (i for i in every if (versions[i] == NOT_THE_MODEL) != (mask[i] == 0) or versions[i] < NOT_THE_MODEL),
        lambda i: f"version {versions[i]} where mask is {mask[i]}",
    )
    yield from at((i for i in every if not 0 <= ids[i] < MOST_IDS), lambda i: f"id {ids[i]}")
    if logprobs is not None:
        given = logprobs
        yield from at(
            (i for i in every if not (math.isfinite(given[i]) and given[i] <= 0 and (mask[i] or given[i] == 0))),
            lambda i: f"log-probability {given[i]} where mask is {mask[i]}",
        )


def _wrong_in_turns(segment: Segment) -> Iterator[Violation]:
    if not segment.turns:
        yield Violation("it has no model call")
    before = 0
    for turn in segment.turns:
        if not (max(before, 1) <= turn.start <= turn.end <= len(segment.ids)):
            said = f"its answer is tokens {turn.start} to {turn.end} of {len(segment.ids)}, and others end at {before}"
            yield Violation(said, step=turn.step)
            return
        before = turn.end
        if not 0 <= turn.cached_tokens <= turn.start:
            yield Violation(f"{turn.cached_tokens} cached of a prompt of {turn.start} tokens", step=turn.step)
        if not turn.finish_reason:
            yield Violation("no finish reason", step=turn.step)
    if all(0 <= token < MOST_IDS for token in segment.ids):
        digests = prefix_digests(segment.ids, [turn.start for turn in segment.turns])
        for turn, digest in zip(segment.turns, digests, strict=True):
            if turn.prompt_digest not in ("", digest):
                yield Violation(f"its prompt was not the {turn.start} tokens before it", step=turn.step)


def _step_at(segment: Segment, place: int) -> int | None:
    """The step whose prompt or answer a token is in."""
    return next((turn.step for turn in segment.turns if place < turn.end), None)


# ---------------------------------------------------------------------- rewards


@dataclass(frozen=True, slots=True)
class Judged:
    """A sample's stored submission, judged again."""

    group: str
    sample: int
    stored: float | None
    again: float | None
    parts_differ: tuple[str, ...] = ()
    """Names of the parts that came out otherwise."""
    problem: str | None = None
    """Why it could not be judged."""

    @property
    def agrees(self) -> bool:
        return self.problem is None and self.stored == self.again and not self.parts_differ


async def recompute_rewards(
    groups: Iterable[Group], client: DaemonClient, run: str, workload: Workload, tasks: Sequence[Task]
) -> list[Judged]:
    """Judge what was handed in and judged once more, each in a fresh environment, a few at once.

    ``client``: a daemon's, or a rehearsal's (no engine is needed). ``run``: what environments belong to.
    """
    known = {task.instance_id: task for task in tasks}
    turns = asyncio.Semaphore(JUDGES)
    began = time.monotonic()

    def noted(_rollout: Ending, _step: dict[str, Any]) -> None:
        raise AssertionError("judging makes no step")

    desk = Desk(client, run, lambda: time.monotonic() - began, noted)

    async def one(number: int, sample: Sample) -> Judged:
        task = known.get(sample.task)
        if task is None:
            problem = f"the workload {workload.name} has no task {sample.task!r}"
            return Judged(sample.group, sample.index, sample.reward, None, problem=problem)
        name = f"again-{number:05d}"
        rollout = Rollout(name, f"{run}/{name}", sample.task, sample.kind, status="submitted")
        rollout.submission = sample.submission
        async with turns:
            await AGENTS[workload.kind](desk, workload, task, rollout).judge()
        if rollout.resolved is None:
            problem = rollout.error or "it was not judged"
            return Judged(sample.group, sample.index, sample.reward, None, problem=problem)
        differ = tuple(
            name
            for name in sorted(sample.parts.keys() | rollout.parts.keys())
            if sample.parts.get(name) != rollout.parts.get(name)
        )
        return Judged(sample.group, sample.index, sample.reward, float(rollout.resolved), differ)

    wanted = [s for group in groups for s in group.samples if s.status == "submitted" and s.reward is not None]
    return list(await asyncio.gather(*(one(number, sample) for number, sample in enumerate(wanted))))
