"""Recordings of other forms as traces: mini-SWE-agent's trajectories, our own stored runs, CSV tables.

Everything of one import becomes programs, or nothing does. What a recording leaves open and was estimated or left out
is said in ``Imported.notes``.
"""

from __future__ import annotations

import csv
import difflib
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pydantic

from thunderctl.errors import UsageError, WorkloadError
from thunderctl.runs.store import find_run
from thunderctl.traces.load import (
    Problem,
    ProgramRecord,
    StepRecord,
    explain,
    make_trace,
    program_of,
    refuse,
    speed_of,
)
from thunderctl.traces.trace import Trace
from thunderctl.traces.trajectories import find_trajectories, read_trajectory

COLUMNS = ("program", "step", "first_prompt", "output", "reasoning", "observation", "tool_s")


class StoredRun(Protocol):
    """The part of a stored run that a trace is made from; see ``runs/store.py``."""

    @property
    def id(self) -> str: ...

    def lines(self, name: str) -> Iterable[dict[str, Any]]: ...


@dataclass(slots=True)
class Imported:
    """What an import read so far."""

    records: list[ProgramRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def trace(self, name: str) -> Trace:
        """All of it as one trace. Ids that occur again get a number."""
        if not self.records:
            raise WorkloadError("nothing was imported: the sources hold no model calls", details=self.notes)
        speed = speed_of(self.records)
        if speed is not None:
            self.notes.append(
                f"seconds from call to call include the recorded model: {speed.latency_s:.2f} s a call and "
                f"{1000 * speed.token_s:.2f} ms a token were taken out"
            )
        elif any(step.gap_s for record in self.records for step in record.steps):
            self.notes.append("too few steps to tell the model's share of the seconds: all of them count as the tool's")
        taken: set[str] = set()
        for record in self.records:
            fresh, number = record.id, 1
            while fresh in taken:
                number += 1
                fresh = f"{record.id}#{number}"
            taken.add(fresh)
            record.id = fresh
        return make_trace(name, (program_of(record, speed) for record in self.records))


def import_sources(sources: Sequence[str], form: str = "auto") -> Imported:
    """Read every source; ``form`` is a key of :data:`READERS`, or ``auto`` to tell it from each source's name.

    Raises:
        WorkloadError: a source is not there, or anything in it is wrong.
    """
    imported = Imported()
    for source in sources:
        READERS[_form_of(source) if form == "auto" else form](source, imported)
    return imported


def _form_of(source: str) -> str:
    path = Path(source).expanduser()
    if path.is_dir():
        return "run" if (path / "manifest.json").is_file() else "mini-swe-agent"
    if path.suffix == ".csv":
        return "csv"
    if path.suffix == ".json":
        return "mini-swe-agent"
    if path.exists() or "/" in source:
        raise WorkloadError(f"{source} is no recording that can be recognised", hint=f"--from {', '.join(READERS)}")
    return "run"


# ------------------------------------------------------------------ mini-SWE-agent


def _from_trajectories(source: str, imported: Imported) -> None:
    problems: list[Problem] = []
    estimated = untimed = empty = 0
    files = find_trajectories(Path(source).expanduser())
    for file in files:
        try:
            found = read_trajectory(file)
        except ValueError as reason:
            problems.append(Problem(None, f"{file}: {reason}"))
            continue
        if found is None:
            empty += 1
            continue
        imported.records.append(found.record)
        estimated += found.estimated
        untimed += found.untimed
    if problems:
        refuse(source, problems)
    if empty:
        imported.notes.append(f"{source}: {empty} trajectories without a model call were left out")
    if estimated:
        imported.notes.append(
            f"{source}: {estimated} trajectories do not state their usage: tokens estimated as characters ÷ 4"
        )
    if untimed:
        imported.notes.append(f"{source}: {untimed} steps do not say when their tool ended: its time counts as 0")


# ------------------------------------------------------------------ our own runs


def _from_run(source: str, imported: Imported) -> None:
    try:
        run = find_run(source if "/" in source or not Path(source).is_dir() else f"./{source}")
    except UsageError as unknown:
        raise WorkloadError(unknown.message, hint=unknown.hint) from None
    imported.records += records_of_run(run)


def trace_of_run(run: StoredRun) -> Trace:
    """The trace of a stored run: what its agents sent and got, programs in the order of their names."""
    return make_trace(run.id, (program_of(record) for record in records_of_run(run)))


def records_of_run(run: StoredRun) -> list[ProgramRecord]:
    """One record for each program that made a call.

    The observation is what the next prompt has more than this prompt and this answer. If it has less, the answer did
    not stay whole: what is missing was reasoning. Tokens of a first prompt that the engine had cached already are the
    prefix that all programs share (the median over programs; the first one to come finds nothing).
    """
    tasks = {r.get("program") or r["agent"]: r.get("instance_id") or "" for r in run.lines("rollouts")}
    tasks |= {r["agent"]: r.get("instance_id") or "" for r in run.lines("rollouts")}
    steps: dict[str, list[dict[str, Any]]] = {}
    for step in run.lines("steps"):
        steps.setdefault(step.get("program") or step["agent"], []).append(step)
    if not steps:
        raise WorkloadError(f"run {run.id} holds no steps")
    for own in steps.values():
        own.sort(key=lambda step: step["step"])
    shared = int(statistics.median(own[0]["cached_tokens"] for own in steps.values()))
    shared = min(shared, *(own[0]["prompt_tokens"] for own in steps.values()))
    return [
        ProgramRecord(
            id=name,
            first_prompt=own[0]["prompt_tokens"],
            steps=_steps_of(own),
            label=tasks.get(name, ""),
            shared_prefix=shared,
        )
        for name, own in sorted(steps.items())
    ]


def _steps_of(own: list[dict[str, Any]]) -> list[StepRecord]:
    records = []
    for number, step in enumerate(own):
        output, observation = step["output_tokens"], 0
        kept = output
        if number + 1 < len(own):
            grown = max(0, own[number + 1]["prompt_tokens"] - step["prompt_tokens"])
            kept = min(output, grown)
            observation = grown - kept
        records.append(
            StepRecord(
                output=kept, reasoning=output - kept, observation=observation, tool_s=round(float(step["tool_s"]), 3)
            )
        )
    return records


# ------------------------------------------------------------------ CSV


@dataclass(slots=True)
class _Table:
    """Rows of one program."""

    line: int
    first_prompt: str
    step: int
    steps: list[dict[str, Any]]


def _from_csv(source: str, imported: Imported) -> None:
    path = Path(source).expanduser()
    problems: list[Problem] = []
    tables: dict[str, _Table] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            _check_header(rows.fieldnames or (), problems)
            if not problems:
                for row in rows:
                    _row(row, rows.line_num, tables, problems)
    except (OSError, UnicodeDecodeError, csv.Error) as failure:
        raise WorkloadError(f"{source} cannot be read: {failure}") from None
    for name, table in tables.items():
        said = {"id": name, "first_prompt": _number(table.first_prompt), "gap": "tool", "steps": table.steps}
        try:
            imported.records.append(ProgramRecord.model_validate(said))
        except pydantic.ValidationError as error:
            # A row's own mistakes were noted with its line.
            problems += [Problem(table.line, reason) for reason in explain(error) if not reason.startswith("steps[")]
    if not problems and not tables:
        problems.append(Problem(None, "has no rows"))
    if problems:
        refuse(source, problems)


def _check_header(header: Sequence[str], problems: list[Problem]) -> None:
    missing = [column for column in COLUMNS if column not in header]
    for column in header:
        if column not in COLUMNS:
            close = difflib.get_close_matches(column, missing, n=1)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            problems.append(Problem(1, f"{column}: unknown column{meant}"))
    if missing:
        problems.append(Problem(1, f"the header lacks {', '.join(missing)}; it is {','.join(COLUMNS)}"))


def _row(row: dict[str | Any, str | Any], line: int, tables: dict[str, _Table], problems: list[Problem]) -> None:
    if None in row or None in row.values():
        problems.append(Problem(line, f"wanted {len(COLUMNS)} fields"))
        return
    name, step, first_prompt = row["program"].strip(), _number(row["step"]), row["first_prompt"].strip()
    said = {key: _number(row[key] or "0") for key in ("output", "reasoning", "observation", "tool_s")}
    try:
        StepRecord.model_validate(said)
    except pydantic.ValidationError as error:
        problems += [Problem(line, reason) for reason in explain(error, StepRecord)]
    table = tables.get(name)
    if not isinstance(step, int):
        problems.append(Problem(line, f"step: wanted a whole number, not {row['step']!r}"))
    elif table is None:
        tables[name] = _Table(line, first_prompt, step, [said])
    else:
        if step != table.step + 1:
            problems.append(Problem(line, f"step: {step} follows {table.step} of program {name!r}"))
        if first_prompt not in ("", table.first_prompt):
            problems.append(Problem(line, f"first_prompt: program {name!r} said {table.first_prompt} before"))
        table.step = step
        table.steps.append(said)


def _number(text: str) -> int | float | str:
    """A cell as the number it shows, or as it is for the check to complain about."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


READERS: dict[str, Callable[[str, Imported], None]] = {
    "mini-swe-agent": _from_trajectories,
    "run": _from_run,
    "csv": _from_csv,
}
