"""The science agent: one program or one command an answer, the program's own errors as feedback, until it submits.

The contract is that of the paper's science agent (self-debug): a block fenced as python is saved as ``program.py`` and
run, one fenced as bash looks around or edits the program, and the command ``submit`` hands the saved program in.
"""

from __future__ import annotations

import re

from thunderctl.agents.client import Lease
from thunderctl.agents.conversation import Action, ConversingAgent
from thunderctl.agents.loop import ToolRun, fill
from thunderctl.agents.science_judging import PROGRAM, arrange, judge_program
from thunderctl.workload.science import ScienceTask, ScienceWorkload

_BLOCK = re.compile(r"```(python|py|bash|sh)[ \t]*\n(.*?)\n```", re.DOTALL)
SUBMIT = "submit"


def actions_of(answer: str) -> list[Action]:
    """The fenced blocks of an answer as actions; a usable answer has exactly one."""
    return [_action(language, text) for language, text in _BLOCK.findall(answer)]


def _action(language: str, text: str) -> Action:
    if language in ("python", "py"):
        mark = "END_OF_PROGRAM"
        while mark in text:
            mark += "_"
        return Action(f"cat > {PROGRAM} <<'{mark}'\n{text}\n{mark}\npython3 {PROGRAM}", "program")
    if text.strip() == SUBMIT:
        return Action(f"cat {PROGRAM}", "submit")
    return Action(text.strip(), "bash")


class ScienceAgent(ConversingAgent[ScienceWorkload, ScienceTask]):
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

    def opening(self) -> str:
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

    @property
    def action_s(self) -> float:
        return self._workload.limits.action_s

    def actions_in(self, answer: str) -> list[Action]:
        return actions_of(answer)

    def submission_in(self, ran: ToolRun) -> str | None:
        return ran.result.output if ran.tool == "submit" and ran.result.returncode == 0 else None

    def observation_of(self, ran: ToolRun) -> str:
        if ran.tool == "submit" and ran.result.returncode:
            return self._workload.prompts.no_program
        return super().observation_of(ran)

    async def judge_in(self, lease: Lease) -> tuple[bool, dict[str, bool | float]]:
        seconds = self._workload.limits.program_s
        return await judge_program(self._client, lease, self._task, self._rollout.submission, seconds)
