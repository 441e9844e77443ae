"""Notes in a task's ``trajectory.jsonl`` what each recorded command returns, so that a replay can tell that it drifted.

Every trajectory is replayed twice. What the two runs agree on is written: the return code, and a digest of the output
where it is the same and shows nothing that another machine or another day would show differently.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thunderctl.environments.backend import Progress
from thunderctl.errors import WorkloadError
from thunderctl.profile import ToolEnvironmentSpec
from thunderctl.runs.rehearsal import Rehearsal, a_rehearsal
from thunderctl.runs.store import write_whole
from thunderctl.runs.tasks import JUDGES
from thunderctl.runs.validate import Steps, an_agent
from thunderctl.workload.base import Task, Workload
from thunderctl.workload.files import RecordedObservation, RecordedStep

OF_A_MACHINE = re.compile(
    r"""
      ^total\ \d+$ | ^[-dl][-rwxsStT]{9}            # long listings: blocks, owners, dates
    | \b\d{1,2}:\d\d(:\d\d)?\b                      # the time of day
    | \b\d+\.\d+\s?m?s\b | \bseconds?\b             # how long something took
    | \bTraceback\ \( | \bPython\ \d | python3\.\d  # worded by the interpreter's version
    | \b0x[0-9a-f]{6,}\b | /tmp/ | /proc/ | /home/  # addresses, places
    """,
    re.VERBOSE | re.MULTILINE,
)
"""An output with any of this is not compared."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One task's: how many of its steps have a return code now, and how many a digest as well."""

    instance_id: str
    steps: int
    codes: int
    digests: int
    unstable: list[int]
    """Steps, from 1, whose return code was not the same twice: they get no observation."""


async def record_tasks(
    workload: Workload, tasks: Sequence[Task], settings: ToolEnvironmentSpec, progress: Progress
) -> list[Recorded]:
    """Replay and write. ``WorkloadError`` if a trajectory does not run to its end; nothing of that task is written."""
    turns = asyncio.Semaphore(JUDGES)
    async with a_rehearsal(settings, progress) as client:

        async def one(task: Task) -> Recorded:
            async with turns:
                first, second = [await _replay(client, workload, task, name) for name in ("first", "second")]
            found = [agreed(a, b) for a, b in zip(first, second, strict=True)]
            write_observations(task, found)
            progress(f"{task.instance_id}: {len(found)} steps")
            return Recorded(
                task.instance_id,
                len(found),
                sum(o is not None for o in found),
                sum(o is not None and o.digest is not None for o in found),
                [
                    n
                    for n, (o, step) in enumerate(zip(found, first, strict=True), 1)
                    if o is None and "returncode" in step
                ],
            )

        return list(await asyncio.gather(*(one(task) for task in tasks)))


async def _replay(client: Rehearsal, workload: Workload, task: Task, name: str) -> Steps:
    steps: Steps = []
    agent, rollout = an_agent(client, workload, task, name, steps=steps)
    await agent.run()
    if len(steps) != len(task.trajectory or []):
        raise WorkloadError(
            f"task {task.instance_id}: its trajectory has {len(task.trajectory or [])} steps, "
            f"and the replay ended with {rollout.status!r} after {len(steps)}",
            details=[rollout.error] if rollout.error else [],
        )
    return steps


def agreed(first: dict[str, Any], second: dict[str, Any]) -> RecordedObservation | None:
    """What two runs of a step have in common; ``None`` if it ran nothing, or ended differently."""
    if "returncode" not in first or first["returncode"] != second.get("returncode"):
        return None
    same = first["digest"] == second["digest"] and not OF_A_MACHINE.search(first["observation"])
    return RecordedObservation(returncode=first["returncode"], digest=first["digest"] if same else None)


def write_observations(task: Task, found: Sequence[RecordedObservation | None]) -> None:
    """The task's ``trajectory.jsonl`` anew, with these observations; answers stay as they were."""
    assert task.folder is not None and task.trajectory is not None  # noqa: S101 - it was replayed
    lines = []
    for step, observation in zip(task.trajectory, found, strict=True):
        fresh = RecordedStep(content=step.content, role=step.role, observation=observation)
        lines.append(json.dumps(fresh.model_dump(exclude_none=True), ensure_ascii=False))
    write_whole(task.folder / "trajectory.jsonl", "".join(line + "\n" for line in lines))
