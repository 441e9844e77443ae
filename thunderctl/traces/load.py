"""Trace files: the one place where they are found, read and written. The format is documented in
``workloads/traces/README.md``; what a trace is once it was read, in ``trace.py``.

A file is read whole or not at all: every problem names file, line, key and reason. Tool times are kept to the
millisecond, so that a trace which was written and read again has the same digest.
"""

from __future__ import annotations

import contextlib
import difflib
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from thunderctl import paths
from thunderctl.errors import WorkloadError
from thunderctl.traces.recorded_speed import FEWEST, RecordedSpeed, fit_speed
from thunderctl.traces.trace import Trace, TraceProgram, TraceStep

SUFFIXES = (".jsonl", ".jsonl.gz")
SHOWN = 5
"""Problems listed of a file that has many."""
MOST = 10**8
"""A larger count or time is a mistake in the file."""

MOST_CALLS = 1000
"""Calls that a step makes at once, at most."""

Tokens = Annotated[int, Field(ge=0, le=MOST)]
Seconds = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StepRecord(_Record):
    """A step as a file says it: with the seconds of the tool alone, or of the whole step, model included."""

    output: Tokens
    reasoning: Tokens = 0
    observation: Tokens = 0
    tool_s: Seconds | None = None
    gap_s: Seconds | None = None

    @pydantic.model_validator(mode="after")
    def _is_a_call(self) -> StepRecord:
        if self.output + self.reasoning == 0:
            raise ValueError("a call generates at least one token: output and reasoning are both 0")
        if (self.tool_s is None) == (self.gap_s is None):
            raise ValueError("wants either tool_s (the tool alone) or gap_s (model and tool together)")
        return self


class ProgramRecord(_Record):
    """One line of a file."""

    id: str = Field(min_length=1, max_length=200)
    first_prompt: Annotated[int, Field(gt=0, le=MOST)]
    gap: Literal["step", "tool"] = "step"
    """What the last number of a step written as a list means."""
    steps: list[StepRecord] = Field(min_length=1)
    label: str = ""
    repo: str = ""
    """Another name of ``label``."""
    group: Annotated[str, Field(min_length=1)] | None = None
    shared_prefix: Tokens = 0
    context_limit: Annotated[int, Field(gt=0, le=MOST)] | None = None
    samples: Annotated[int, Field(gt=0, le=MOST_CALLS)] = 1
    branches: Annotated[int, Field(gt=0, le=MOST_CALLS)] = 1

    @pydantic.model_validator(mode="before")
    @classmethod
    def _lists_are_steps(cls, said: Any) -> Any:
        if not isinstance(said, dict) or not isinstance(said.get("steps"), list):
            return said
        seconds = "tool_s" if said.get("gap") == "tool" else "gap_s"
        steps = []
        for number, step in enumerate(said["steps"]):
            if isinstance(step, list):
                if len(step) != 4:
                    raise ValueError(f"steps[{number}]: a list has 4 numbers (output, reasoning, observation, seconds)")
                step = dict(zip(("output", "reasoning", "observation", seconds), step, strict=True))
            steps.append(step)
        return {**said, "steps": steps}

    @pydantic.model_validator(mode="after")
    def _agrees_with_itself(self) -> ProgramRecord:
        if self.label and self.repo:
            raise ValueError("label and repo are two names of one thing: say one of them")
        if self.shared_prefix > self.first_prompt:
            raise ValueError(f"shared_prefix: {self.shared_prefix} tokens of a first_prompt of {self.first_prompt}")
        if self.samples > 1 and self.branches > 1:
            raise ValueError("samples and branches: a step has either several samples or several branches")
        if self.samples > 1 and self.context_limit is not None:
            raise ValueError("samples: what is sampled several times cannot have a context_limit")
        return self


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where."""

    line: int | None
    reason: str

    def __str__(self) -> str:
        return self.reason if self.line is None else f"line {self.line}: {self.reason}"


def refuse(origin: object, problems: Sequence[Problem]) -> NoReturn:
    """A single problem is the message; of several the first ones are listed."""
    if len(problems) == 1:
        separator = " " if problems[0].line is not None else ": "
        raise WorkloadError(f"{origin}{separator}{problems[0]}")
    details = [str(problem) for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        details.append(f"… and {len(problems) - SHOWN} more")
    raise WorkloadError(f"{origin}: {len(problems)} things are wrong, nothing was read", details=details)


def explain(error: pydantic.ValidationError, model: type[BaseModel] = ProgramRecord) -> list[str]:
    """What a record's validation complains about, each with its key."""
    said = []
    for detail in error.errors(include_url=False):
        key = ""
        for part in detail["loc"]:
            key += f"[{part}]" if isinstance(part, int) else f"{'.' if key else ''}{part}"
        if detail["type"] == "extra_forbidden":
            known = StepRecord.model_fields if "[" in key else model.model_fields
            close = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
            reason = "unknown key" + (f" (did you mean {close[0]!r}?)" if close else f"; known: {', '.join(known)}")
        elif detail["type"] == "missing":
            reason = "is missing"
        else:
            reason = detail["msg"].removeprefix("Value error, ")
            reason = reason[0].lower() + reason[1:]
            if not isinstance(detail["input"], dict | list):
                reason += f", not {detail['input']!r}"
        said.append(f"{key}: {reason}" if key else reason)
    return said


def read_trace(path: Path) -> tuple[Trace, RecordedSpeed | None]:
    """The trace, and the speed of the recorded model if its share had to be taken out of the seconds.

    Raises:
        WorkloadError: the file cannot be read, or anything in it is wrong.
    """
    problems: list[Problem] = []
    records: list[ProgramRecord] = []
    seen: dict[str, int] = {}
    for number, line in _lines(path):
        record = _record(number, line, problems)
        if record is None:
            continue
        if record.id in seen:
            problems.append(Problem(number, f"id: {record.id!r} is the program of line {seen[record.id]} already"))
        seen.setdefault(record.id, number)
        records.append(record)
    if not problems and not records:
        problems.append(Problem(None, "has no programs"))
    if problems:
        refuse(path, problems)
    speed = speed_of(records)
    if speed is None and any(step.gap_s for record in records for step in record.steps):
        raise WorkloadError(
            f"{path}: fewer than {FEWEST} steps say how long they took, too few to tell the model's share from the "
            "tool's",
            hint='if the seconds are those of the tool alone, say "gap": "tool" (or tool_s in each step)',
        )
    return make_trace(_name_of(path), (program_of(record, speed) for record in records)), speed


def load_trace(path: Path) -> Trace:
    """The trace of a file, whole; ``WorkloadError`` as in :func:`read_trace`."""
    return read_trace(path)[0]


def speed_of(records: Iterable[ProgramRecord]) -> RecordedSpeed | None:
    """The recorded model's speed, from the steps that say ``gap_s``; a last step has no next call to measure to."""
    return fit_speed([(s.output + s.reasoning, s.gap_s) for record in records for s in record.steps[:-1] if s.gap_s])


def _name_of(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def _lines(path: Path) -> Iterable[tuple[int, bytes]]:
    """Numbered lines that are not empty."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as failure:
        raise WorkloadError(f"{path} cannot be read: {failure}") from None
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            yield number, line


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are said once each: of two, nobody knows which was meant."""
    said = dict(pairs)
    if len(said) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)}: is said twice")
    return said


def _record(number: int, line: bytes, problems: list[Problem]) -> ProgramRecord | None:
    try:
        said = json.loads(line.decode(), object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        problems.append(Problem(number, f"not valid JSON: {error.msg} at column {error.colno}"))
        return None
    except (ValueError, RecursionError) as error:
        problems.append(Problem(number, str(error)))
        return None
    if not isinstance(said, dict):
        problems.append(Problem(number, "a program is an object, like " + '{"id": "a", "first_prompt": 9, "steps": …}'))
        return None
    try:
        return ProgramRecord.model_validate(said)
    except pydantic.ValidationError as error:
        problems += [Problem(number, reason) for reason in explain(error)]
        return None


def program_of(record: ProgramRecord, speed: RecordedSpeed | None = None) -> TraceProgram:
    """The program, with the model's share taken out of steps that say ``gap_s``."""
    steps = []
    for step in record.steps:
        seconds = step.tool_s
        if seconds is None:
            gap = step.gap_s or 0.0
            seconds = speed.tool_s(gap, step.output + step.reasoning) if speed else gap
        steps.append(TraceStep(step.output, step.reasoning, step.observation, seconds))
    return TraceProgram(
        id=record.id,
        first_prompt=record.first_prompt,
        steps=tuple(steps),
        label=record.label or record.repo,
        group=record.group,
        shared_prefix=record.shared_prefix,
        context_limit=record.context_limit,
        samples=record.samples,
        branches=record.branches,
    )


def make_trace(name: str, programs: Iterable[TraceProgram]) -> Trace:
    """A trace of these programs in this order, tool times rounded to milliseconds, with its digest."""
    kept = tuple(_rounded(program) for program in programs)
    digest = hashlib.sha256("".join(_line(program) for program in kept).encode()).hexdigest()[:16]
    return Trace(name, kept, digest)


def _rounded(program: TraceProgram) -> TraceProgram:
    steps = tuple(TraceStep(s.output, s.reasoning, s.observation, round(float(s.tool_s), 3)) for s in program.steps)
    return replace(program, steps=steps)


def _line(program: TraceProgram) -> str:
    """The program as one line of a file, in the shortest form; what is left at its default is left out."""
    said: dict[str, Any] = {"id": program.id, "first_prompt": program.first_prompt, "gap": "tool"}
    optional = {
        "label": program.label, "group": program.group, "shared_prefix": program.shared_prefix,
        "context_limit": program.context_limit,
    }  # fmt: skip
    said |= {key: value for key, value in optional.items() if value}
    said |= {key: n for key, n in (("samples", program.samples), ("branches", program.branches)) if n > 1}
    said["steps"] = [
        [s.output, s.reasoning, s.observation, int(s.tool_s) if s.tool_s.is_integer() else s.tool_s]
        for s in program.steps
    ]
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")) + "\n"


def write_trace(path: Path, trace: Trace) -> None:
    """Write the trace in its normal form (``"gap": "tool"``), so that a reader finds the old file or the new one."""
    if not path.name.endswith(SUFFIXES):
        raise WorkloadError(f"{path}: a trace's file ends in {' or '.join(SUFFIXES)}")
    data = "".join(_line(program) for program in make_trace(trace.name, trace.programs).programs).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError as failure:
        raise WorkloadError(f"{path} cannot be written: {failure.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


def list_traces() -> list[Path]:
    """The bundled traces."""
    return sorted((paths.bundled_workloads() / "traces").glob("*.jsonl"))


def find_trace(name_or_path: str) -> Path:
    """File of a bundled trace by name, or a file of the user's own by path."""
    bundled = {path.stem: path for path in list_traces()}
    if name_or_path in bundled:
        return bundled[name_or_path]
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    close = difflib.get_close_matches(name_or_path, bundled, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    raise WorkloadError(
        f"there is no trace {name_or_path!r}", hint=f"{meant}bundled ones: {', '.join(bundled)}; or give a file"
    )
