"""Workloads and their tasks as files: ``workloads/<name>/workload.yaml`` and one folder a task.

Everything is read safely: unknown keys are errors, names cannot leave their folder. Nothing here runs anything.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from thunderctl import marked_yaml, paths
from thunderctl.errors import UsageError, WorkloadError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Prompts(_Section):
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


class LoopLimits(_Section):
    """When an agent has to stop."""

    steps: int = Field(100, ge=1)
    output_tokens: int = Field(4096, ge=1)
    """Longest answer of one step, in tokens."""
    observation_chars: int = Field(10_000, ge=200)
    """Longest observation that enters the context; the middle is cut out."""
    format_errors: int = Field(3, ge=1)
    """Answers without exactly one command, in a row."""


class WorkloadEnvironment(_Section):
    image: str | None = None
    """A name, ``base:NAME``, ``build:FOLDER`` or ``import:FILE``."""
    warm: int = Field(0, ge=0, le=1024)
    """Containers of each image that are kept ready for the next agent."""
    setup: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)


class Workload(_Section):
    """``workload.yaml``."""

    name: str
    kind: Literal["coding"]
    description: str
    prompts: Prompts
    limits: LoopLimits = LoopLimits()  # type: ignore[call-arg]
    environment: WorkloadEnvironment = WorkloadEnvironment()  # type: ignore[call-arg]


class TaskFile(_Section):
    """``task.yaml`` of a bundled task, in the shape of a SWE-bench instance."""

    instance_id: str
    title: str
    domain: str
    difficulty: Literal["easy", "medium", "hard"]
    problem_statement: str
    FAIL_TO_PASS: list[str] = Field(min_length=1)
    PASS_TO_PASS: list[str]


class CodingTask(_Section):
    """One task, from whichever source."""

    instance_id: str
    problem_statement: str
    fail_to_pass: list[str]
    pass_to_pass: list[str]
    image: str | None = None
    """Docker image that holds the repository at /testbed; ``None`` for tasks that bring ``files``."""
    files: Path | None = None
    hidden: Path | None = None
    """Tests that are copied over the repository to judge the patch."""
    answers: list[str] | None = None
    """The recorded answers, one a step; ``None``: this task cannot be replayed."""

    @property
    def can_be_judged(self) -> bool:
        return self.files is not None


def _explain(error: pydantic.ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg'].lower()}"


def _read_yaml(path: Path) -> Any:
    try:
        return marked_yaml.read(path).value
    except marked_yaml.YamlProblem as problem:
        line = f" line {problem.line}" if problem.line else ""
        raise WorkloadError(f"{path}{line}: {problem.reason}") from None


def list_workloads() -> list[str]:
    return sorted(p.parent.name for p in paths.bundled_workloads().glob("*/workload.yaml"))


def find_workload(name_or_path: str) -> Path:
    """Folder of a bundled workload by name, or a folder of the user's own by path."""
    if "/" in name_or_path or name_or_path in (".", ".."):
        folder = Path(name_or_path).expanduser()
    else:
        folder = paths.bundled_workloads() / paths.safe_name(name_or_path, "workload")
    if not (folder / "workload.yaml").is_file():
        raise WorkloadError(
            f"there is no workload {name_or_path!r}",
            hint=f"bundled ones: {', '.join(list_workloads())}; or give a folder",
        )
    return folder


def load_workload(folder: Path) -> Workload:
    try:
        return Workload.model_validate(_read_yaml(folder / "workload.yaml"))
    except pydantic.ValidationError as error:
        raise WorkloadError(f"{folder / 'workload.yaml'}: {_explain(error)}") from None


def load_tasks(folder: Path) -> list[CodingTask]:
    """All tasks of a workload folder, by name. A folder that cannot be used is an error, never left out silently."""
    root = folder / "tasks"
    tasks = [load_task(path) for path in sorted(root.iterdir()) if path.is_dir()] if root.is_dir() else []
    if not tasks:
        raise WorkloadError(f"{root} has no task folders")
    return tasks


def load_task(folder: Path) -> CodingTask:
    try:
        meta = TaskFile.model_validate(_read_yaml(folder / "task.yaml"))
        paths.safe_name(meta.instance_id, "instance_id")
    except pydantic.ValidationError as error:
        raise WorkloadError(f"{folder / 'task.yaml'}: {_explain(error)}") from None
    except UsageError as error:
        raise WorkloadError(f"{folder / 'task.yaml'}: {error.message}", hint=error.hint) from None
    if meta.instance_id != folder.name:
        raise WorkloadError(f"{folder / 'task.yaml'}: instance_id {meta.instance_id!r} must equal its folder's name")
    files, hidden = _inside(folder, "repo"), _inside(folder, "hidden")
    if files is None:
        raise WorkloadError(f"{folder}: the folder repo/ is missing")
    return CodingTask(
        instance_id=meta.instance_id,
        problem_statement=meta.problem_statement,
        fail_to_pass=meta.FAIL_TO_PASS,
        pass_to_pass=meta.PASS_TO_PASS,
        files=files,
        hidden=hidden,
        answers=_load_answers(folder / "trajectory.jsonl"),
    )


def _inside(folder: Path, name: str) -> Path | None:
    """``folder/name`` if it exists, with every path below it staying below it."""
    root = folder / name
    if not root.is_dir():
        return None
    top = root.resolve()
    for path in root.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(top):
            raise WorkloadError(f"{path} is a link that leaves its task folder")
    return root


def _load_answers(path: Path) -> list[str] | None:
    if not path.is_file():
        return None
    answers = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            answers.append(str(json.loads(line)["content"]))
        except (json.JSONDecodeError, KeyError, TypeError):
            raise WorkloadError(f'{path} line {number}: wanted an object like {{"content": "…"}}') from None
    return answers


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
