"""The routing agent: a small orchestrator decides, round by round, which model searches, computes or answers.

After ToolOrchestra's loop: each call is a fresh chat of two messages, each round the orchestrator names one of three
tools and one of the models behind it. Differences: the text before the last words is the same for every role and only
grows (``routing_context.py``), and programs that models write run in a leased tool environment, never on the host.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from dataclasses import dataclass
from typing import Any

from thunderctl.agents.client import Answer, Lease, ToolResult
from thunderctl.agents.loop import TaskAgent, ToolRun, clip, fill
from thunderctl.agents.routing_context import Findings
from thunderctl.agents.routing_latency import tool_latency_s
from thunderctl.agents.routing_matching import verdict
from thunderctl.agents.routing_models import ExternalModels, Tally
from thunderctl.agents.routing_search import load_corpus
from thunderctl.workload.routing import TOOLS, Part, RoutingTask, RoutingWorkload

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_QUERY = re.compile(r"<query>(.*?)</query>", re.DOTALL)
_PROGRAM = re.compile(r"```(?:python|py)\s*\n(.*?)\n```", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
ABOUT = {
    "search": "Look passages up in the corpus. The model words the query.",
    "enhance_reasoning": "Have the model write a Python program, run it, and see what it prints.",
    "answer": "Have the model give the final answer. This ends the work.",
}


class Unusable(Exception):
    """An answer that holds not what was wanted. The message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the orchestrator decided."""

    tool: Part
    role: str


def choice_in(answer: str, workload: RoutingWorkload, tools: list[Part]) -> Choice:
    """The one tool call of an orchestrator's answer; ``Unusable`` if there is none, or one that does not exist."""
    found = _CALL.findall(answer)
    if len(found) != 1:
        raise Unusable(f"it held {len(found)} tool calls; exactly one is wanted")
    try:
        call = json.loads(found[0])
        tool, role = call["name"], call["arguments"]["model"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise Unusable('the tool call is not JSON like {"name": "…", "arguments": {"model": "…"}}') from None
    if tool not in tools:
        raise Unusable(f"there is no tool {tool!r}; there are {', '.join(tools)}")
    if role not in workload.playing(tool):
        raise Unusable(f"{tool} has no model {role!r}; it has {', '.join(workload.playing(tool))}")
    return Choice(tool, role)


def only(pattern: re.Pattern[str], answer: str, wanted: str) -> str:
    """What stands in the one place of an answer that ``pattern`` finds; ``Unusable`` if it finds none or several."""
    found: list[str] = [text.strip() for text in pattern.findall(answer)]
    if len(found) != 1 or not found[0]:
        raise Unusable(f"exactly one {wanted} is wanted, and it held {len(found)}")
    return found[0]


class RoutingAgent(TaskAgent[RoutingWorkload, RoutingTask]):
    """One agent on one question."""

    async def work(self, lease: Lease) -> str:
        workload, limits = self._workload, self._workload.limits
        self._corpus = load_corpus(self._task.corpus) if self._task.corpus is not None else None
        self._tools = [tool for tool in TOOLS if workload.playing(tool) and (tool != "search" or self._corpus)]
        self._findings = Findings(limits.context_chars, workload.prompts.left_out)
        self._tallies: dict[str, Tally] = {}
        self._complaint = ""
        complaints = 0
        prompts = workload.prompts
        self._system = fill(prompts.system, tools=self._describe_tools(), models=self._describe_models())
        self._opening = fill(prompts.question, tag=self.tag, question=self._task.question)
        external = {} if self._rollout.kind == "replay" else workload.models
        async with ExternalModels(self._client, external) as self._external:
            try:
                for number in range(1, limits.rounds + 1):
                    if self._rollout.steps + 2 > limits.steps:
                        return "step limit"
                    try:
                        answer = await self._round(number, lease)
                    except Unusable as reason:
                        complaints += 1
                        self._complaint = fill(prompts.format_error, reason=reason)
                        if complaints >= limits.format_errors:
                            return "format errors"
                        continue
                    complaints, self._complaint = 0, ""
                    if answer is not None:
                        self._rollout.submission = answer
                        return "submitted"
                return "step limit"
            finally:
                self._rollout.models = {role: tally.as_dict() for role, tally in self._tallies.items()}

    async def _round(self, number: int, lease: Lease) -> str | None:
        """One decision and what it leads to; the final answer, if it was one."""
        prompts, role = self._workload.prompts, self._workload.orchestrator
        last_words = fill(prompts.orchestrate, round=number, rounds=self._workload.limits.rounds)
        began, answer = await self._ask(role, last_words)
        try:
            choice = choice_in(answer.content, self._workload, self._tools)
        except Unusable as reason:
            self._tell(role, began, answer, str(reason))
            raise
        self._tell(role, began, answer, f"{choice.tool} by {choice.role}")
        if choice.tool == "answer":
            return await self._answer(choice.role)
        if choice.tool == "search":
            await self._search(choice.role)
        else:
            await self._compute(choice.role, lease)
        return None

    # ------------------------------------------------------------------ the three tools

    async def _search(self, role: str) -> None:
        began, answer = await self._ask(role, self._workload.prompts.search)
        query = self._wanted(_QUERY, "query between <query> and </query>", role, began, answer)
        started = time.monotonic()
        await self._linger("search")
        assert self._corpus is not None  # noqa: S101 - without one there is no such tool
        found = self._corpus.search(query, self._workload.limits.passages)
        fresh = self._findings.unknown(found)
        shown = [f"[{p.id}] {p.title}\n{p.text}" for p in fresh]
        if len(fresh) < len(found):
            shown.append("Found again: " + ", ".join(p.id for p in found if p not in fresh))
        documents = "\n\n".join(shown) or "Nothing was found."
        took = time.monotonic() - started
        ran = ToolRun(query, ToolResult(documents, 0, took, False, 0), took, "search")
        self._findings.add(fill(self._workload.prompts.documents, role=role, query=query, documents=documents), fresh)
        self._tell(role, began, answer, documents, ran)

    async def _compute(self, role: str, lease: Lease) -> None:
        began, answer = await self._ask(role, self._workload.prompts.enhance_reasoning)
        program = self._wanted(_PROGRAM, "program in a block fenced as python", role, began, answer)
        waited = time.monotonic()
        await self._linger("enhance_reasoning")
        waited = time.monotonic() - waited
        ran = await self.use(lease, as_command(program), "enhance_reasoning")
        ran = ToolRun(ran.command, ran.result, ran.tool_s + waited, ran.tool)
        output = clip(ran.result.output, self._workload.limits.observation_chars).rstrip()
        if ran.result.timed_out:
            output += f"\n(stopped after {ran.result.duration_s:.0f} s)"
        finding = fill(
            self._workload.prompts.program,
            role=role,
            program=program,
            returncode=ran.result.returncode,
            output=output or "(nothing)",
        )
        self._findings.add(finding)
        self._tell(role, began, answer, output, ran)

    async def _answer(self, role: str) -> str:
        began, answer = await self._ask(role, self._workload.prompts.answer)
        final = self._wanted(_ANSWER, "answer between <answer> and </answer>", role, began, answer)
        self._tally(role).answered = 1
        self._tell(role, began, answer, final)
        return final

    async def _linger(self, tool: str) -> None:
        """Wait as long as the latency profile says, as a tool that the scheduler knows of."""
        workload, rollout = self._workload, self._rollout
        seconds = tool_latency_s(workload.tool_latency, tool, workload.latency_seed, rollout.agent, rollout.steps)
        if seconds > 0:
            await self._client.tool(rollout.program, "started", tool)
            await asyncio.sleep(seconds * self._desk.time_scale)
            if tool == "search":  # a program's end is told by its environment
                await self._client.tool(rollout.program, "finished", tool)

    # ------------------------------------------------------------------ asking and telling

    async def _ask(self, role: str, last_words: str) -> tuple[float, Answer]:
        """When the call was sent, and what the role's model said."""
        messages = [
            {"role": "system", "content": self._system},
            {"role": "user", "content": f"{self._opening}{self._findings}{self._complaint}{last_words}"},
        ]
        began = self._desk.clock()
        if role in self._external:
            program = self._rollout.program
            await self._client.tool(program, "started", f"model {role}")
            try:
                answer = await self._external.ask(role, messages, self._workload.limits.output_tokens)
            finally:
                await self._client.tool(program, "finished", f"model {role}")
        else:
            answer = await self.ask(messages)
        self._tally(role).add(answer, self._workload.models.get(role) if self._rollout.kind != "replay" else None)
        return began, answer

    def _tally(self, role: str) -> Tally:
        return self._tallies.setdefault(role, Tally())

    def _wanted(self, pattern: re.Pattern[str], what: str, role: str, began: float, answer: Answer) -> str:
        try:
            return only(pattern, answer.content, what)
        except Unusable as reason:
            self._tell(role, began, answer, str(reason))
            raise

    def _tell(self, role: str, began: float, answer: Answer, observation: str, ran: ToolRun | None = None) -> None:
        external = self._workload.models[role].model if role in self._external else None
        if external is None:
            self.note(began, answer, observation, ran, role=role, model=self._client.model)
        else:  # its tokens are not this cluster's
            self.note(began, answer, observation, ran, role=role, model=external, external=True)

    def _describe_tools(self) -> str:
        schemas: list[dict[str, Any]] = [
            {
                "name": tool,
                "description": ABOUT[tool],
                "parameters": {"model": {"type": "string", "enum": self._workload.playing(tool)}},
            }
            for tool in self._tools
        ]
        return "\n".join(json.dumps(schema) for schema in schemas)

    def _describe_models(self) -> str:
        lines = []
        for name, role in self._workload.roles.items():
            if role.part in self._tools:
                spec = self._workload.models.get(name)
                price = (
                    f" (US$ {spec.input_usd_per_mtok:g} in, {spec.output_usd_per_mtok:g} out, a million tokens)"
                    if spec is not None and spec.input_usd_per_mtok + spec.output_usd_per_mtok > 0
                    else ""
                )
                lines.append(f"- {name}, for {role.part}: {role.about}{price}")
        return "\n".join(lines)

    # ------------------------------------------------------------------ judging the answer

    async def judge(self) -> None:
        """By the question's rule: neither a model nor an environment is needed."""
        rollout = self._rollout
        if rollout.status == "submitted":
            rollout.resolved, rollout.parts = verdict(self._task.rule, rollout.submission)

    async def judge_in(self, lease: Lease) -> tuple[bool, dict[str, bool | float]]:
        return verdict(self._task.rule, self._rollout.submission)


def as_command(program: str) -> str:
    """A shell command that writes the program to a file of the environment and runs it in Python's isolated mode.

    The mark that ends the file is a hash of the program, so that no program can hold it.
    """
    mark = f"END_{hashlib.sha256(program.encode()).hexdigest()[:16]}"
    return f"cat > program.py <<'{mark}'\n{program}\n{mark}\npython3 -I program.py"
