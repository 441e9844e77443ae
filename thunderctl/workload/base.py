"""What every workload and every task has, whatever its agents do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from thunderctl import paths
from thunderctl.errors import UsageError, WorkloadError
from thunderctl.workload.files import RecordedStep, Section, folder_inside, read_section, read_trajectory

Difficulty = Literal["easy", "medium", "hard"]
F = TypeVar("F", bound="TaskFile")


class LoopLimits(Section):
    """When an agent has to stop."""

    steps: int = Field(100, ge=1)
    output_tokens: int = Field(4096, ge=1)
    """Longest answer of one step, in tokens."""
    observation_chars: int = Field(10_000, ge=200)
    """Longest observation that enters the context; the middle is cut out."""
    format_errors: int = Field(3, ge=1)
    """Answers in a row that hold no action, or several."""


class WorkloadEnvironment(Section):
    """The tool environment of each agent."""

    image: str | None = None
    """A name, ``base:NAME``, ``build:FOLDER`` or ``import:FILE``."""
    warm: int = Field(0, ge=0, le=1024)
    """Containers of each image that are kept ready for the next agent."""
    setup: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)


class Workload(Section):
    """``workload.yaml``. Each kind adds its prompts."""

    name: str
    kind: str
    description: str
    limits: LoopLimits = LoopLimits()  # type: ignore[call-arg]
    environment: WorkloadEnvironment = WorkloadEnvironment()  # type: ignore[call-arg]

    def about(self, kind: str) -> dict[str, Any]:
        """What the manifest of a run of this ``kind`` (``live`` or ``replay``) tells beside that."""
        return {}


class ConversationPrompts(Section):
    """Texts of a conversation with one action an answer; ``{{name}}`` is replaced."""

    system: str
    instance: str
    """``{{tag}}`` (a line that no other agent has), and what the kind tells of the task."""
    observation: str
    """``{{returncode}}`` and ``{{output}}``."""
    format_error: str
    """``{{found}}``: how many actions the answer had."""
    timeout: str
    """``{{seconds}}`` and ``{{output}}``."""


class Conversation(Workload):
    """A workload whose agents talk in plain text (``agents/conversation.py``)."""

    prompts: ConversationPrompts


class TaskFile(Section):
    """``task.yaml`` of a bundled task. Each kind adds what it asks and how it is judged."""

    instance_id: str
    title: str
    domain: str
    difficulty: Difficulty


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task, from whichever source."""

    instance_id: str
    title: str = ""
    domain: str = ""
    difficulty: Difficulty | None = None
    folder: Path | None = None
    """Of a bundled task; ``None`` for rows of a data set."""
    image: str | None = None
    """Of its environment, if it is not the workload's."""
    files: Path | None = None
    """Folder that is copied into the environment before the agent starts."""
    hidden: Path | None = None
    """Folder that is copied over that to judge the submission."""
    gold: Path | None = None
    """A submission that is right, as a file."""
    trajectory: list[RecordedStep] | None = None
    """The recorded steps; ``None``: this task cannot be replayed."""

    @property
    def can_be_judged(self) -> bool:
        """Whether the submission can be judged here."""
        return self.folder is not None


def read_task_file(model: type[F], folder: Path) -> F:
    """``task.yaml`` of a task's folder, whose name is the task's."""
    meta = read_section(model, folder / "task.yaml")
    try:
        paths.safe_name(meta.instance_id, "instance_id")
    except UsageError as error:
        raise WorkloadError(f"{folder / 'task.yaml'}: {error.message}", hint=error.hint) from None
    if meta.instance_id != folder.name:
        raise WorkloadError(f"{folder / 'task.yaml'}: instance_id {meta.instance_id!r} must equal its folder's name")
    return meta


def common_parts(folder: Path, meta: TaskFile, files: str) -> dict[str, Any]:
    """What a task has from its folder and from every ``task.yaml``; its files are in ``folder/files``."""
    return {
        "instance_id": meta.instance_id,
        "title": meta.title,
        "domain": meta.domain,
        "difficulty": meta.difficulty,
        "folder": folder,
        "files": folder_inside(folder, files),
        "hidden": folder_inside(folder, "hidden"),
        "trajectory": read_trajectory(folder / "trajectory.jsonl"),
    }
