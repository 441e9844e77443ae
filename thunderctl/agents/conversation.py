"""Agents that talk in plain text: each answer holds one action in a fenced block, and what it showed comes next."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TypeVar

from thunderctl.agents.client import Lease
from thunderctl.agents.loop import TaskAgent, ToolRun, clip, fill
from thunderctl.workload.base import Conversation, Task

W = TypeVar("W", bound=Conversation)
T = TypeVar("T", bound=Task)


@dataclass(frozen=True, slots=True)
class Action:
    """What an answer asks for."""

    command: str
    """What runs in the environment."""
    tool: str | None = None
    """Its name, where a workload has several."""


class ConversingAgent(TaskAgent[W, T]):
    """One agent on one task. A kind says how it begins, what an answer asks for, and what hands the work in."""

    async def work(self, lease: Lease) -> str:
        prompts, limits = self._workload.prompts, self._workload.limits
        messages = [{"role": "system", "content": prompts.system}, {"role": "user", "content": self.opening()}]
        malformed = 0
        for _ in range(limits.steps):
            began = self._desk.clock()
            answer = await self.ask(messages)
            found = self.actions_in(answer.content)
            if len(found) != 1:
                malformed += 1
                observation = fill(prompts.format_error, found=len(found))
                self.note(began, answer, observation)
                if malformed >= limits.format_errors:
                    return "format errors"
            else:
                malformed = 0
                ran = await self.use(lease, found[0].command, found[0].tool, timeout_s=self.action_s)
                observation = self.observation_of(ran)
                self.note(began, answer, observation, ran)
                submission = self.submission_in(ran)
                if submission is not None:
                    self._rollout.submission = submission
                    return "submitted"
            messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": observation}]
        return "step limit"

    @property
    def action_s(self) -> float | None:
        """Longest run of one action; ``None``: what the profile allows."""
        return None

    @abstractmethod
    def opening(self) -> str:
        """The first words to the model, after the system prompt."""

    @abstractmethod
    def actions_in(self, answer: str) -> list[Action]:
        """The actions of an answer; a usable one has exactly one."""

    @abstractmethod
    def submission_in(self, ran: ToolRun) -> str | None:
        """What this action handed in; ``None`` if the work goes on."""

    def observation_of(self, ran: ToolRun) -> str:
        """What the model is shown of an action."""
        prompts, result = self._workload.prompts, ran.result
        output = clip(result.output, self._workload.limits.observation_chars)
        if result.timed_out:
            return fill(prompts.timeout, seconds=round(result.duration_s), output=output)
        return fill(prompts.observation, returncode=result.returncode, output=output)
