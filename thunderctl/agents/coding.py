"""The coding agent: mini-SWE-agent's contract, one bash command an answer, until it submits a patch."""

from __future__ import annotations

import re

from thunderctl.agents.client import Lease, ToolResult
from thunderctl.agents.conversation import Action, ConversingAgent
from thunderctl.agents.judging import judge_patch
from thunderctl.agents.loop import ToolRun, fill
from thunderctl.workload.coding import CodingTask, CodingWorkload

FINISH_MARKER = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""First output line of the command that ends the task; what follows is the patch (mini-SWE-agent's contract)."""
_COMMAND = re.compile(r"```(?:bash|sh|mswea_bash_command)\s*\n(.*?)\n```", re.DOTALL)


def commands_of(answer: str) -> list[str]:
    """The fenced bash blocks of an answer."""
    return [block.strip() for block in _COMMAND.findall(answer)]


def submission_of(result: ToolResult) -> str | None:
    """The patch, if this command submitted one."""
    first, _, rest = result.output.lstrip().partition("\n")
    return rest if result.returncode == 0 and first.strip() == FINISH_MARKER else None


class CodingAgent(ConversingAgent[CodingWorkload, CodingTask]):
    """One agent on one task."""

    def opening(self) -> str:
        return fill(self._workload.prompts.instance, tag=self.tag, task=self._task.problem_statement)

    def actions_in(self, answer: str) -> list[Action]:
        return [Action(command) for command in commands_of(answer)]

    def submission_in(self, ran: ToolRun) -> str | None:
        return submission_of(ran.result)

    async def judge_in(self, lease: Lease) -> tuple[bool, dict[str, bool | float]]:
        return await judge_patch(self._client, lease, self._task, self._rollout.submission)
