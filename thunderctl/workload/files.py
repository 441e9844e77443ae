"""Reads workload files safely: unknown keys are errors, and names and links cannot leave their folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict

from thunderctl import marked_yaml
from thunderctl.errors import WorkloadError


class Section(BaseModel):
    """Part of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=BaseModel)


class RecordedObservation(Section):
    """What a recorded command returned, so that a replay can say where it drifted."""

    returncode: int
    digest: str | None = None
    """Of its output (:func:`thunderctl.agents.loop.digest`), where the recorder found that to be the same each time."""


class RecordedStep(Section):
    """One line of ``trajectory.jsonl``: an answer that the engine is forced to give in replay."""

    content: str
    role: str | None = None
    """Which of a workload's models spoke; ``None`` where there is one."""
    observation: RecordedObservation | None = None


def explain(error: pydantic.ValidationError) -> str:
    """The first complaint, with the key it is about."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg'].lower()}" if where else str(first["msg"]).lower()


def read_yaml(path: Path) -> Any:
    """The file's value; ``WorkloadError`` with file and line."""
    try:
        return marked_yaml.read(path).value
    except marked_yaml.YamlProblem as problem:
        line = f" line {problem.line}" if problem.line else ""
        raise WorkloadError(f"{path}{line}: {problem.reason}") from None


def read_section(model: type[S], path: Path) -> S:
    """A YAML file as ``model``; ``WorkloadError`` with file and key."""
    try:
        return model.model_validate(read_yaml(path))
    except pydantic.ValidationError as error:
        raise WorkloadError(f"{path}: {explain(error)}") from None


def folder_inside(folder: Path, name: str) -> Path | None:
    """``folder/name`` if it exists, with every path below it staying below it."""
    root = folder / name
    if not root.is_dir():
        return None
    top = root.resolve()
    for path in root.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(top):
            raise WorkloadError(f"{path} is a link that leaves its task folder")
    return root


def read_trajectory(path: Path) -> list[RecordedStep] | None:
    """The recorded steps; ``None`` without a file."""
    if not path.is_file():
        return None
    steps = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            steps.append(RecordedStep.model_validate(json.loads(line)))
        except json.JSONDecodeError:
            raise WorkloadError(f'{path} line {number}: wanted an object like {{"content": "…"}}') from None
        except pydantic.ValidationError as error:
            raise WorkloadError(f"{path} line {number}: {explain(error)}") from None
    return steps
