"""Coding workloads: repair a repository by shell commands. Tasks are bundled, or rows in SWE-bench's form."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from thunderctl import paths
from thunderctl.errors import UsageError, WorkloadError
from thunderctl.workload.base import Task, TaskFile, Workload, common_parts, read_task_file
from thunderctl.workload.files import Section


class Prompts(Section):
    """Texts of the loop; ``{{name}}`` is replaced."""

    system: str
    instance: str
    """``{{tag}}`` (a line that no other agent has) and ``{{task}}``."""
    observation: str
    """``{{returncode}}`` and ``{{output}}``."""
    format_error: str
    """``{{found}}``: how many commands the answer had."""
    timeout: str
    """``{{seconds}}`` and ``{{output}}``."""


class CodingWorkload(Workload):
    """``workload.yaml`` of kind ``coding``."""

    prompts: Prompts


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
    gold: Path | None = None
    """A patch that solves it."""


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


def load_dataset(path: Path) -> list[CodingTask]:
    """SWE-bench rows from JSON lines: they run live, in the official images, and are judged by ``swebench``."""
    tasks = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        raise WorkloadError(f"{path} cannot be read: {failure}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name = paths.safe_name(row["instance_id"], "instance_id")
            statement = row["problem_statement"]
        except json.JSONDecodeError as error:
            raise WorkloadError(f"{path} line {number}: not valid JSON: {error.msg}") from None
        except (KeyError, TypeError) as error:
            raise WorkloadError(f"{path} line {number}: wanted a SWE-bench row, missing {error}") from None
        except UsageError as error:
            raise WorkloadError(f"{path} line {number}: {error.message}", hint=error.hint) from None
        tasks.append(
            CodingTask(
                instance_id=name,
                problem_statement=str(statement),
                fail_to_pass=_test_ids(row.get("FAIL_TO_PASS")),
                pass_to_pass=_test_ids(row.get("PASS_TO_PASS")),
                image=row.get("image_name") or official_image(name),
            )
        )
    if not tasks:
        raise WorkloadError(f"{path} has no rows")
    return tasks


def _test_ids(value: object) -> list[str]:
    """SWE-bench stores lists of test names as JSON text."""
    parsed = json.loads(value) if isinstance(value, str) else value
    return [str(item) for item in parsed] if isinstance(parsed, list) else []


def official_image(instance_id: str) -> str:
    """Image name of an official instance (SWE-bench's own naming)."""
    return f"swebench/sweb.eval.x86_64.{instance_id.replace('__', '_1776_')}:latest".lower()
