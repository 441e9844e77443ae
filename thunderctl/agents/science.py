"""The science agent: one program or one command an answer, the program's own errors as feedback, until it submits.

The contract is that of the paper's science agent (self-debug): a block fenced as python is saved as ``program.py`` and
run, one fenced as bash looks around or edits the program, and the command ``submit`` hands the saved program in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from thunderctl.agents.client import Lease, ToolResult
from thunderctl.agents.loop import TaskAgent, clip, fill
from thunderctl.agents.science_judging import PROGRAM, arrange, judge_program
from thunderctl.workload.science import ScienceTask, ScienceWorkload

_BLOCK = re.compile(r"```(python|py|bash|sh)[ \t]*\n(.*?)\n```", re.DOTALL)
SUBMIT = "submit"


@dataclass(frozen=True, slots=True)
class Action:
    """What an answer asks for."""

    tool: Literal["program", "bash", "submit"]
    command: str
    """What runs in the environment."""


def actions_of(answer: str) -> list[Action]:
    """The fenced blocks of an answer as actions; a usable answer has exactly one."""
    return [_action(language, text) for language, text in _BLOCK.findall(answer)]


def _action(language: str, text: str) -> Action:
    if language in ("python", "py"):
        mark = "END_OF_PROGRAM"
        while mark in text:
            mark += "_"
        return Action("program", f"cat > {PROGRAM} <<'{mark}'\n{text}\n{mark}\npython3 {PROGRAM}")
    if text.strip() == SUBMIT:
        return Action("submit", f"cat {PROGRAM}")
    return Action("bash", text.strip())


class ScienceAgent(TaskAgent[ScienceWorkload, ScienceTask]):
    """One agent on one task."""

    async def _environment(self, program: str, *, wait: bool) -> Lease:
        spec, task = self._workload.environment, self._task
        return await self._client.environment(
            program,
            self._desk.run,
            image=task.image or spec.image,
            files=task.files,
            setup=[*arrange(task), *spec.setup],
            env=spec.env,
            wait=wait,
        )

    def _prompt(self) -> str:
        task = self._task
        return fill(
            self._workload.prompts.instance,
            tag=self.tag,
            task=task.task_inst,
            domain_knowledge=task.domain_knowledge,
            dataset_folder_tree=task.dataset_folder_tree,
            dataset_preview=task.dataset_preview,
            output_fname=task.output_fname,
        )

    async def work(self, lease: Lease) -> str:
        prompts, limits = self._workload.prompts, self._workload.limits
        messages = [{"role": "system", "content": prompts.system}, {"role": "user", "content": self._prompt()}]
        malformed = 0
        for _ in range(limits.steps):
            began = self._desk.clock()
            answer = await self.ask(messages)
            found = actions_of(answer.content)
            if len(found) != 1:
                malformed += 1
                observation = fill(prompts.format_error, found=len(found))
                self.note(began, answer, observation)
                if malformed >= limits.format_errors:
                    return "format errors"
            else:
                malformed = 0
                ran = await self.use(lease, found[0].command, found[0].tool, timeout_s=limits.action_s)
                handed_in = found[0].tool == "submit" and ran.result.returncode == 0
                refused = found[0].tool == "submit" and not handed_in
                observation = prompts.no_program if refused else self._observation(ran.result)
                self.note(began, answer, observation, ran)
                if handed_in:
                    self._rollout.submission = ran.result.output
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
        seconds = self._workload.limits.program_s
        return await judge_program(self._client, lease, self._task, self._rollout.submission, seconds)
