"""Whether a workload's tasks are what they claim: the gold solution passes, the untouched task fails, and a recorded
trajectory ends in a submission that passes. Judged just as in a run, in environments of this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from thunderctl.agents.desk import Desk
from thunderctl.agents.kinds import AGENTS
from thunderctl.agents.loop import TaskAgent
from thunderctl.agents.rollout import Ending, Rollout
from thunderctl.environments.backend import Progress
from thunderctl.errors import ThunderError
from thunderctl.profile import ToolEnvironmentSpec
from thunderctl.runs.rehearsal import Rehearsal, a_rehearsal
from thunderctl.runs.tasks import JUDGES
from thunderctl.workload.base import Task, Workload
from thunderctl.workload.coding import CodingTask
from thunderctl.workload.load import kind_of

NOTHING_DONE = """\
diff --git a/.untouched b/.untouched
new file mode 100644
index 0000000..257cc56
--- /dev/null
+++ b/.untouched
@@ -0,0 +1 @@
+foo
"""
"""A patch that applies and repairs nothing: an empty one would be judged without running a test."""

Steps = list[dict[str, Any]]


@dataclass(slots=True)
class Finding:
    """One task's. ``None``: not looked at, or there is nothing to look at."""

    instance_id: str
    gold_passes: bool | None = None
    untouched_fails: bool | None = None
    replay_passes: bool | None = None
    drifted: int = 0
    """Steps of the recorded trajectory whose tool returned something else than recorded."""
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def an_agent(
    client: Rehearsal, workload: Workload, task: Task, name: str, *, submission: str | None = None, steps: Steps
) -> tuple[TaskAgent[Any, Any], Rollout]:
    """An agent that replays its task; or one that has handed in ``submission`` already. ``steps`` gets what it does."""
    began = time.monotonic()

    def noted(_rollout: Ending, step: dict[str, Any]) -> None:
        steps.append(step)

    desk = Desk(client, client.name, lambda: time.monotonic() - began, noted)
    rollout = Rollout(name, f"{client.name}/{task.instance_id}/{name}", task.instance_id, "replay")
    if submission is not None:
        rollout.status, rollout.submission = "submitted", submission
    return AGENTS[workload.kind](desk, workload, task, rollout), rollout


async def check_tasks(
    workload: Workload,
    tasks: Sequence[Task],
    settings: ToolEnvironmentSpec,
    *,
    replay: bool,
    progress: Progress,
    done: Callable[[Finding], None] = lambda finding: None,
) -> list[Finding]:
    """Each task, a few at once; ``replay``: its recorded trajectory too. In the order of ``tasks``."""
    turns = asyncio.Semaphore(JUDGES)
    async with a_rehearsal(settings, progress) as client:

        async def one(task: Task) -> Finding:
            async with turns:
                finding = await _check(client, workload, task, replay)
                done(finding)
                return finding

        return list(await asyncio.gather(*(one(task) for task in tasks)))


async def _check(client: Rehearsal, workload: Workload, task: Task, replay: bool) -> Finding:
    began, finding = time.monotonic(), Finding(task.instance_id)
    try:
        await _gold(client, workload, task, finding)
        await _untouched(client, workload, task, finding)
        if replay and task.trajectory:
            await _trajectory(client, workload, task, finding)
    except ThunderError as failure:
        finding.problems.append(failure.message)
    finding.seconds = time.monotonic() - began
    return finding


async def _judged(client: Rehearsal, workload: Workload, task: Task, name: str, submission: str) -> Rollout:
    agent, rollout = an_agent(client, workload, task, name, submission=submission, steps=[])
    await agent.judge()
    return rollout


def _failed_parts(rollout: Rollout) -> str:
    failed = [name for name, value in rollout.parts.items() if value is False]
    return f" ({', '.join(failed[:3])}{', …' if len(failed) > 3 else ''})" if failed else ""


async def _gold(client: Rehearsal, workload: Workload, task: Task, finding: Finding) -> None:
    agent, _ = an_agent(client, workload, task, "gold", steps=[])
    gold = agent.gold()
    if gold is None:
        finding.problems.append("it has no gold solution")
        return
    rollout = await _judged(client, workload, task, "gold", gold)
    finding.gold_passes = rollout.resolved
    if rollout.resolved is not True:
        finding.problems.append(rollout.error or f"the gold solution does not pass{_failed_parts(rollout)}")


async def _untouched(client: Rehearsal, workload: Workload, task: Task, finding: Finding) -> None:
    agent, _ = an_agent(client, workload, task, "untouched", steps=[])
    handed_in = NOTHING_DONE if kind_of(workload).patches else agent.untouched()
    rollout = await _judged(client, workload, task, "untouched", handed_in)
    if rollout.resolved is None:
        finding.problems.append(rollout.error or "the untouched task was not judged")
        return
    finding.untouched_fails = not rollout.resolved
    if rollout.resolved:
        finding.problems.append("the untouched task passes: nothing is left to do in it")
    elif isinstance(task, CodingTask):
        wrong = [name for name in task.fail_to_pass if rollout.parts.get(name) is not False]
        if wrong:
            finding.problems.append(f"FAIL_TO_PASS: {', '.join(wrong)} passes in the untouched task")
        broken = [name for name in task.pass_to_pass if rollout.parts.get(name) is not True]
        if broken:
            finding.problems.append(f"PASS_TO_PASS: {', '.join(broken)} fails in the untouched task")


async def _trajectory(client: Rehearsal, workload: Workload, task: Task, finding: Finding) -> None:
    agent, rollout = an_agent(client, workload, task, "replay", steps=[])
    await agent.run()
    await agent.judge()
    finding.replay_passes, finding.drifted = rollout.resolved is True, rollout.drifted
    if rollout.status != "submitted":
        why = f": {rollout.error}" if rollout.error else ""
        finding.problems.append(
            f"the recorded trajectory ends with {rollout.status!r} after {rollout.steps} steps{why}"
        )
    elif rollout.resolved is not True:
        finding.problems.append(rollout.error or f"what the trajectory submits does not pass{_failed_parts(rollout)}")
