"""The coding agent: mini-SWE-agent's contract, one bash command an answer, until it submits a patch."""

from __future__ import annotations

import re

from thunderctl.agents.client import Lease, ToolResult
from thunderctl.agents.judging import judge_patch
from thunderctl.agents.loop import TaskAgent, clip, fill
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


class CodingAgent(TaskAgent[CodingWorkload, CodingTask]):
    """One agent on one task."""

    async def work(self, lease: Lease) -> str:
        prompts, limits = self._workload.prompts, self._workload.limits
        messages = [
            {"role": "system", "content": prompts.system},
            {"role": "user", "content": fill(prompts.instance, tag=self.tag, task=self._task.problem_statement)},
        ]
        malformed = 0
        for _ in range(limits.steps):
            began = self._desk.clock()
            answer = await self.ask(messages)
            found = commands_of(answer.content)
            if len(found) != 1:
                malformed += 1
                observation = fill(prompts.format_error, found=len(found))
                self.note(began, answer, observation)
                if malformed >= limits.format_errors:
                    return "format errors"
            else:
                malformed = 0
                ran = await self.use(lease, found[0])
                observation = self._observation(ran.result)
                self.note(began, answer, observation, ran)
                patch = submission_of(ran.result)
                if patch is not None:
                    self._rollout.submission = patch
                    return "submitted"
            messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": observation}]
        return "step limit"

    def _observation(self, result: ToolResult) -> str:
        prompts, limit = self._workload.prompts, self._workload.limits.observation_chars
        output = clip(result.output, limit)
        if result.timed_out:
            return fill(prompts.timeout, seconds=round(result.duration_s), output=output)
        return fill(prompts.observation, returncode=result.returncode, output=output)

    async def judge_in(self, lease: Lease) -> tuple[bool, dict[str, bool | float]]:
        return await judge_patch(self._client, lease, self._task, self._rollout.submission)
