"""The heavy coding agent: structured tool calls for shell, file editor, Python cells and thoughts, until it finishes.

Its contract is its own: OpenAI ``tools`` in the request, ``tool_calls`` in the answer where the engine parses them
(else they are looked for in the text). What it hands in is the repository's difference when it calls ``finish``.
"""

from __future__ import annotations

import json
from typing import Any

from thunderctl.agents.client import Answer, Lease, ToolCall, ToolResult
from thunderctl.agents.judging import judge_patch
from thunderctl.agents.loop import TaskAgent, ToolRun, clip, fill
from thunderctl.agents.tool_schemas import SCHEMAS, BadCall, arguments_of, calls_of, said_before
from thunderctl.agents.tools import Toolbox
from thunderctl.workload.coding import CodingTask
from thunderctl.workload.coding_tools import CodingToolsWorkload

NOTED = "Noted."
"""What ``think`` answers."""


class CodingToolsAgent(TaskAgent[CodingToolsWorkload, CodingTask]):
    """One agent on one task."""

    async def work(self, lease: Lease) -> str:
        tools = Toolbox(self._client, lease)
        try:
            return await self._converse(tools)
        finally:
            await tools.close()

    async def _converse(self, tools: Toolbox) -> str:
        prompts, limits = self._workload.prompts, self._workload.limits
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": prompts.system},
            {"role": "user", "content": fill(prompts.instance, tag=self.tag, task=self._task.problem_statement)},
        ]
        silent = 0
        for _ in range(limits.steps):
            began = self._desk.clock()
            answer = await self.ask(messages, tools=SCHEMAS)
            calls = calls_of(answer)
            messages.append(_as_message(answer, calls))
            if not calls:
                silent += 1
                self.note(began, answer, prompts.reminder, tool_calls=[])
                if silent >= limits.format_errors:
                    return "format errors"
                messages.append({"role": "user", "content": prompts.reminder})
                continue
            silent = 0
            runs: list[ToolRun] = []
            told: list[str] = []
            for call in calls:
                observation, ran = await self._carry_out(tools, call)
                messages.append({"role": "tool", "tool_call_id": call.id, "content": observation})
                told.append(observation)
                runs += [ran] if ran is not None else []
                if ran is not None and ran.tool == "finish" and not ran.result.returncode:
                    self._rollout.submission = ran.result.output
                    break
            self.note(
                began, answer, "\n".join(told), together(runs), tool_calls=[c.name for c in calls], tool=calls[0].name
            )
            if runs and runs[-1].tool == "finish" and not runs[-1].result.returncode:
                return "submitted"
        return "step limit"

    async def _carry_out(self, tools: Toolbox, call: ToolCall) -> tuple[str, ToolRun | None]:
        """What the model is shown, and what was run for it."""
        try:
            arguments = arguments_of(call)
            if call.name == "think":
                return NOTED, None
            ran = await tools.use(call.name, arguments)
        except BadCall as reason:
            return str(reason), None
        self._rollout.prepare_s = ran.result.prepared_s
        self._rollout.environment_wait_s += ran.result.waited_s
        return self._observation(ran), ran

    def _observation(self, ran: ToolRun) -> str:
        prompts, limit = self._workload.prompts, self._workload.limits.observation_chars
        output = clip(ran.result.output, limit)
        if ran.result.timed_out:
            return fill(prompts.timeout, seconds=round(ran.result.duration_s), output=output)
        if ran.tool in ("bash", "finish"):
            return fill(prompts.observation, returncode=ran.result.returncode, output=output)
        return output or "(no output)"

    async def judge_in(self, lease: Lease) -> tuple[bool, dict[str, bool | float]]:
        return await judge_patch(self._client, lease, self._task, self._rollout.submission)


def together(runs: list[ToolRun]) -> ToolRun | None:
    """What one answer ran, as one: outputs in order, the first exit code that is not 0, times added up."""
    if len(runs) < 2:
        return runs[0] if runs else None
    result = ToolResult(
        output="\n".join(run.result.output for run in runs),
        returncode=next((run.result.returncode for run in runs if run.result.returncode), 0),
        duration_s=sum(run.result.duration_s for run in runs),
        timed_out=any(run.result.timed_out for run in runs),
        truncated_bytes=sum(run.result.truncated_bytes for run in runs),
    )
    return ToolRun("\n".join(run.command for run in runs), result, sum(run.tool_s for run in runs), runs[0].tool)


def _as_message(answer: Answer, calls: list[ToolCall]) -> dict[str, Any]:
    if not calls:
        return {"role": "assistant", "content": answer.content}
    return {
        "role": "assistant",
        "content": said_before(answer),
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name or "unknown", "arguments": _object(call)},
            }
            for call in calls
        ],
    }


def _object(call: ToolCall) -> str:
    """A call's arguments to be sent back; engines refuse a conversation in which they are no JSON object."""
    try:
        valid = isinstance(json.loads(call.arguments), dict)
    except json.JSONDecodeError:
        valid = False
    return call.arguments if valid else json.dumps({"malformed": call.arguments}, ensure_ascii=False)
