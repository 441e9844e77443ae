"""Routing workloads: answer a question by asking other models to search, to compute, and to answer.

Tasks are bundled questions over a corpus of the workload's own, or rows in HLE's form. How an answer is told right
from wrong stands in each task as a rule (``agents/routing_matching.py`` applies it); no model judges.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from thunderctl.errors import WorkloadError
from thunderctl.profile import RoleModelSpec
from thunderctl.workload.base import LoopLimits, Task, TaskFile, Workload, common_parts, read_task_file
from thunderctl.workload.files import Section

Part = Literal["orchestrate", "search", "enhance_reasoning", "answer"]
TOOLS: tuple[Part, ...] = ("search", "enhance_reasoning", "answer")
"""What the orchestrator decides between each round."""
LatencyName = Literal["none", "fast", "long-tail"]
CORPUS = "corpus.jsonl"
"""Passages to search in, beside ``workload.yaml``: one object ``{"id", "title", "text"}`` a line."""


class Prompts(Section):
    """Texts of the loop; ``{{name}}`` is replaced. Every call of an agent begins with the same text (``system``,
    ``question``, what was found so far), and ends with what is wanted now: so its prefix stays in the cache."""

    system: str
    """``{{tools}}``: one line of JSON for each tool. ``{{models}}``: one line for each model."""
    question: str
    """``{{tag}}`` (a line that no other agent has) and ``{{question}}``."""
    documents: str
    """A finding. ``{{role}}``, ``{{query}}``, ``{{documents}}``."""
    program: str
    """A finding. ``{{role}}``, ``{{program}}``, ``{{returncode}}``, ``{{output}}``."""
    left_out: str
    """In place of findings that made room."""
    orchestrate: str
    """Last words to the orchestrator. ``{{round}}`` and ``{{rounds}}``."""
    search: str
    """Last words to whoever words the query."""
    enhance_reasoning: str
    """Last words to whoever writes the program."""
    answer: str
    """Last words to whoever answers."""
    format_error: str
    """Put before the last words after an answer that could not be used. ``{{reason}}``."""


class RoutingLimits(LoopLimits):
    """When an agent has to stop. A round is two steps: the orchestrator's call and that of the model it chose."""

    rounds: int = Field(50, ge=1)
    passages: int = Field(10, ge=1, le=50)
    """Passages that a search brings."""
    context_chars: int = Field(72_000, ge=2000)
    """Findings beyond this many characters make room: the oldest go, at once down to half of it, so that the prefix of
    the following rounds is disturbed once and not in every round."""


class Role(Section):
    """One of the models that a workload speaks with."""

    part: Part
    about: str = ""
    """What the orchestrator is told of it."""


class RoutingWorkload(Workload):
    """``workload.yaml`` of kind ``routing``."""

    prompts: Prompts
    limits: RoutingLimits = RoutingLimits()  # type: ignore[call-arg]
    roles: dict[str, Role]
    tool_latency: LatencyName = "none"
    """Time that tools take on top of their own (``agents/routing_latency.py``)."""
    latency_seed: int = 0
    models: dict[str, RoleModelSpec] = Field(default_factory=dict)
    """Who serves the roles: the profile's section ``models``, put in by :func:`equipped`."""

    @model_validator(mode="before")
    @classmethod
    def _models_come_from_the_profile(cls, value: Any) -> Any:
        if isinstance(value, dict) and "models" in value:
            raise ValueError("models is a section of the profile: a workload names its roles only")
        return value

    @model_validator(mode="after")
    def _every_part_is_played(self) -> RoutingWorkload:
        parts = [role.part for role in self.roles.values()]
        if parts.count("orchestrate") != 1:
            raise ValueError("roles must name exactly one with part orchestrate")
        if "answer" not in parts:
            raise ValueError("roles must name at least one with part answer")
        return self

    @property
    def orchestrator(self) -> str:
        return next(name for name, role in self.roles.items() if role.part == "orchestrate")

    def playing(self, part: Part) -> list[str]:
        """Names of the roles with this part."""
        return [name for name, role in self.roles.items() if role.part == part]

    def about(self, kind: str) -> dict[str, Any]:
        """For the manifest of a run of this ``kind``: who answered for each role, and how tools were slowed down."""
        here = "this cluster, forced to replay" if kind == "replay" else "this cluster"
        served = {name: here for name in self.roles}
        if kind != "replay":
            served |= {name: f"{s.model} at {s.base_url}" for name, s in self.models.items() if s.base_url is not None}
        return {"roles": served, "tool_latency": self.tool_latency}


def equipped(
    workload: RoutingWorkload,
    models: Mapping[str, RoleModelSpec],
    *,
    tool_latency: LatencyName | None = None,
    seed: int = 0,
) -> RoutingWorkload:
    """The workload with the profile's models in its roles, and the tool times of the command line."""
    for name in models:
        if name not in workload.roles:
            close = difflib.get_close_matches(name, workload.roles, n=1)
            raise WorkloadError(
                f"profile key models.{name}: workload {workload.name!r} has no such role",
                hint=f"did you mean {close[0]!r}?" if close else f"its roles: {', '.join(workload.roles)}",
            )
    update = {"models": dict(models), "tool_latency": tool_latency or workload.tool_latency, "latency_seed": seed}
    return workload.model_copy(update=update)


# --- how an answer is told right from wrong ---------------------------------------------------------------------


class NumberRule(Section):
    """A number. Without a tolerance it must be equal (up to a billionth, for the sake of decimals)."""

    kind: Literal["number"]
    value: float
    absolute: float = Field(0.0, ge=0)
    relative: float = Field(0.0, ge=0)
    units: dict[str, float] = Field(default_factory=dict)
    """Unit → how many of ``value``'s unit one of it is. An answer without a unit is taken as given in ``value``'s."""


class TextRule(Section):
    """Words, compared without case, articles, punctuation at the ends, and runs of spaces."""

    kind: Literal["text"]
    accept: list[str] = Field(min_length=1)
    """What is right, in all its spellings."""


class ChoiceRule(Section):
    """The letter of one of the choices in the question."""

    kind: Literal["choice"]
    letter: str = Field(pattern="^[A-Z]$")


class ListRule(Section):
    """Several items, divided by commas, semicolons, line breaks or the last ``and``: all of them and nothing else."""

    kind: Literal["list"]
    ordered: bool = True
    items: list[Annotated[NumberRule | TextRule, Field(discriminator="kind")]] = Field(min_length=1)


AnswerRule = Annotated[NumberRule | TextRule | ChoiceRule | ListRule, Field(discriminator="kind")]


# --- tasks ------------------------------------------------------------------------------------------------------


class RoutingTaskFile(TaskFile):
    """``task.yaml`` of a bundled question."""

    question: str
    answer: AnswerRule


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTask(Task):
    """A question, and the rule that its answer is held against."""

    question: str
    rule: NumberRule | TextRule | ChoiceRule | ListRule
    corpus: Path | None = None
    """Passages to search in; without them there is no search."""

    @property
    def can_be_judged(self) -> bool:
        return True


def load_task(folder: Path) -> RoutingTask:
    """A bundled question: ``task.yaml``, ``gold.txt`` and ``trajectory.jsonl``; the corpus lies beside the workload."""
    meta = read_task_file(RoutingTaskFile, folder)
    corpus, gold = folder.parent.parent / CORPUS, folder / "gold.txt"
    return RoutingTask(
        **common_parts(folder, meta, "files"),
        question=meta.question.strip(),
        rule=meta.answer,
        corpus=corpus if corpus.is_file() else None,
        gold=gold if gold.is_file() else None,
    )
