"""Coding workloads: repair a repository by shell commands. Tasks are bundled, or rows in SWE-bench's form."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from thunderctl import paths
from thunderctl.errors import WorkloadError
from thunderctl.workload.base import Conversation, Task, TaskFile, common_parts, read_task_file
from thunderctl.workload.files import RecordedStep, explain, read_trajectory
from thunderctl.workload.rows import Rows, load_rows

OFFICIAL = "sweb.eval."
"""In the name of every official image."""
TEST_ID = re.compile(r"[\w./+-]+\.py::.+|[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
"""Of tests that can be run here: pytest's or unittest's names."""
_MADE_HERE = ("build:", "import:")


class CodingWorkload(Conversation):
    """``workload.yaml`` of kind ``coding``; of the task its prompt tells ``{{task}}``."""


class CodingTaskFile(TaskFile):
    """``task.yaml`` of a bundled task, in the shape of a SWE-bench instance."""

    problem_statement: str
    FAIL_TO_PASS: list[str] = Field(min_length=1)
    PASS_TO_PASS: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodingTask(Task):
    """A repository, what is wrong with it, and the tests that tell when it is right."""

    problem_statement: str
    fail_to_pass: list[str] = field(default_factory=list)
    pass_to_pass: list[str] = field(default_factory=list)
    """Tests as ``package.module.Class.test`` (unittest) or ``folder/file.py::test`` (pytest); rows may have others."""
    test_patch: str = ""
    """Adds the tests that judge a row; a bundled task has them in its folder ``hidden``."""

    @property
    def can_be_judged(self) -> bool:
        """Rows in official images are left to ``swebench``, which knows how each repository runs its tests."""
        if self.folder is not None:
            return True
        official = OFFICIAL in (self.image or "")
        tests = [*self.fail_to_pass, *self.pass_to_pass]
        return not official and bool(self.fail_to_pass) and all(TEST_ID.fullmatch(name) for name in tests)


def load_task(folder: Path) -> CodingTask:
    """A bundled task: ``task.yaml``, ``repo/``, ``hidden/``, ``gold.patch``, ``trajectory.jsonl``."""
    meta = read_task_file(CodingTaskFile, folder)
    parts = common_parts(folder, meta, "repo")
    if parts["files"] is None:
        raise WorkloadError(f"{folder}: the folder repo/ is missing")
    gold = folder / "gold.patch"
    return CodingTask(
        **parts,
        problem_statement=meta.problem_statement,
        fail_to_pass=meta.FAIL_TO_PASS,
        pass_to_pass=meta.PASS_TO_PASS,
        gold=gold if gold.is_file() else None,
    )


class SwebenchRow(BaseModel):
    """What is used of a row in SWE-bench's form; other columns may be there. Lists of tests may be JSON text."""

    model_config = ConfigDict(strict=True, frozen=True)

    instance_id: str
    problem_statement: str = Field(min_length=1)
    image: str | None = None
    image_name: str | None = None
    docker_image: str | None = None
    """Under whichever of the three names; without any it is the official one."""
    FAIL_TO_PASS: list[str] = Field(default_factory=list)
    PASS_TO_PASS: list[str] = Field(default_factory=list)
    test_patch: str = ""
    """Adds the tests that judge the patch."""
    trajectory: str | list[RecordedStep] | None = None
    """Ours: recorded answers for a replay, or the name of a ``.jsonl`` file with them beside the rows."""

    @field_validator("FAIL_TO_PASS", "PASS_TO_PASS", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            raise PydanticCustomError("tests", "neither a list of tests nor such a list as text") from None


def load_dataset(source: str | Path) -> Rows[CodingTask]:
    """SWE-bench rows from a file or from Hugging Face. They live in the official images, or in those that they name."""
    beside = Path(source).expanduser().parent

    def task_of(fields: dict[str, Any]) -> CodingTask:
        try:
            row = SwebenchRow.model_validate(fields)
        except ValidationError as error:
            raise WorkloadError(explain(error)) from None
        name = paths.safe_name(row.instance_id, "instance_id")
        image = row.image or row.image_name or row.docker_image or official_image(name)
        if image.startswith(_MADE_HERE):  # a row may come from anybody: it reads no file of this machine
            raise WorkloadError(f"image: {image!r} is no name of an image; build it first, and name it here")
        return CodingTask(
            instance_id=name,
            problem_statement=row.problem_statement,
            fail_to_pass=row.FAIL_TO_PASS,
            pass_to_pass=row.PASS_TO_PASS,
            test_patch=row.test_patch,
            image=image,
            trajectory=_recorded(row.trajectory, beside),
        )

    return load_rows(str(source), task_of)


def _recorded(said: str | list[RecordedStep] | None, beside: Path) -> list[RecordedStep] | None:
    if not isinstance(said, str):
        return said or None
    file = beside / said
    if not file.resolve().is_relative_to(beside.resolve()):
        raise WorkloadError(f"trajectory: {said!r} is not beside the rows")
    steps = read_trajectory(file)
    if steps is None:
        raise WorkloadError(f"trajectory: there is no file {said!r} beside the rows")
    return steps


def official_image(instance_id: str) -> str:
    """Image name of an official instance (SWE-bench's own naming)."""
    return f"swebench/{OFFICIAL}x86_64.{instance_id.replace('__', '_1776_')}:latest".lower()
