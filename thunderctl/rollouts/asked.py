"""What a roll-out is asked to do, by the command line or by a trainer, and the plan that it comes to.

Everything that can be wrong about it is found out here, before anything starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from thunderctl.cli.asked import Asked, make_plan
from thunderctl.errors import UsageError
from thunderctl.profile_files import ResolvedProfile
from thunderctl.rollouts.files import MANIFEST, GroupFiles
from thunderctl.rollouts.groups import Rules, parse_keep
from thunderctl.rollouts.plan import GroupPlan
from thunderctl.rollouts.shelf import Shelf
from thunderctl.rollouts.sources import group_name
from thunderctl.runs.begin import identity
from thunderctl.runs.resume import Earlier, look_back, refuse_another_plan
from thunderctl.runs.store import RunFolder, find_run
from thunderctl.runs.tasks import TaskPlan
from thunderctl.workload.coding_tools import CodingToolsWorkload

TEMPERATURE = 1.0
"""Of live answers, where nothing is said: without chance, the samples of a group would be one and the same."""


@dataclass(frozen=True, slots=True)
class RolloutAsked:
    """Options that were not given are ``None`` or empty."""

    work: Asked
    tasks: int | None = None
    """Groups in all."""
    samples_per_task: int = 8
    keep: str | None = None
    """``first:K``."""
    group_timeout_s: float | None = None
    retries: int = 0
    sampling: Mapping[str, float] = field(default_factory=dict)
    out: str | None = None
    ahead: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """As the manifest has it, beside what it says of the work."""
        said = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "work"}
        return said | {"out": None if self.out is None else str(_absolute(self.out))}

    @classmethod
    def from_manifest(cls, said: Mapping[str, Any]) -> RolloutAsked:
        """As a run's manifest has it."""
        known = {
            each.name: said["asked_rollout"][each.name] for each in fields(cls) if each.name in said["asked_rollout"]
        }
        return cls(work=Asked.from_dict(said["asked"]), **known)

    def more(self) -> dict[str, Any]:
        """What ``--resume`` needs, for the run's manifest."""
        return {"asked": self.work.as_dict(), "asked_rollout": self.as_dict()}

    def plan(self, resolved: ResolvedProfile, *, out: str | None = None, shelf: Shelf | None = None) -> GroupPlan:
        """What there is to do; ``UsageError``, ``WorkloadError`` or ``PreflightError`` if it cannot be done.

        ``out``: where its folder is now, if it was moved.
        """
        out = out or self.out
        rules = Rules(
            self.samples_per_task,
            None if self.keep is None else parse_keep(self.keep),
            self.group_timeout_s,
            self.retries,
            self.ahead,
        )
        if self.tasks is not None and self.tasks < 1:
            raise UsageError(f"a roll-out wants at least one group: --tasks {self.tasks}")
        agents = self.work.agents or resolved.profile.runs.agents
        groups = self.tasks
        asked = self.work
        if self.work.workload == "trace":
            groups = groups or -(-agents // rules.samples)
            asked = replace(asked, programs=groups * rules.samples)
        work = make_plan(asked, resolved, cut_to_fit=True)
        parser = resolved.profile.model.tool_call_parser
        calls = isinstance(work, TaskPlan) and isinstance(work.workload, CodingToolsWorkload)
        if calls and work.kind == "live" and parser not in (None, "hermes"):
            raise UsageError(
                f"roll-outs read tool calls as Hermes writes them, and model.tool_call_parser is {parser!r}",
                hint="take a model that writes them so, or a workload of plain text",
            )
        sampling = dict(self.sampling)
        if work.kind == "live":
            sampling.setdefault("temperature", TEMPERATURE)
        return GroupPlan(
            work,
            rules,
            groups=groups,
            longest=resolved.profile.model.max_model_len,
            out=None if out is None else _absolute(out),
            sampling=sampling,
            shelf=shelf,
        )


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def refuse_if_taken(out: str) -> None:
    """``UsageError`` unless a roll-out can begin in this folder."""
    folder = _absolute(out)
    if (folder / MANIFEST).exists():
        raise UsageError(f"{folder} holds a roll-out already", hint=f"thunderctl rollout run --resume {out}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already, and not empty", hint="name a folder of its own: --out DIR")


def run_of(out: str) -> RunFolder:
    """The run that wrote this folder; ``UsageError`` if it is gone."""
    run = GroupFiles(_absolute(out)).manifest().get("run")
    if not isinstance(run, str):
        raise UsageError(f"{_absolute(out) / MANIFEST} names no run that could be gone on with")
    return find_run(run)


def look_back_at(store: RunFolder, out: str) -> Earlier:
    """What is done of a roll-out: samples of the groups that are whole. ``UsageError`` if nothing is left to do."""
    whole = GroupFiles(_absolute(out)).done()
    asked = store.read("manifest.json")["rollout"]["groups"]
    if whole >= {group_name(number) for number in range(asked)}:
        raise UsageError(f"the roll-out in {out} is complete: all {asked} groups are there")
    return look_back(store, lambda record: str(record["agent"]).partition(".")[0] in whole)


def refuse_other_work(store: RunFolder, plan: GroupPlan) -> None:
    """``UsageError`` if a roll-out that goes on would not be what was begun."""
    refuse_another_plan(store.read("manifest.json"), identity(plan), store.id)
