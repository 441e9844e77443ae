"""The coding agent: mini-SWE-agent's contract, one bash command an answer, until it submits a patch.

Where answers come from is the only difference between *live* and *replay*: in replay the engine is forced to emit the
recorded answer, and everything else (prefill, cache, tools, observations) happens as it does live.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from thunderctl.agents.client import DaemonClient, Lease, ToolResult
from thunderctl.agents.rollout import run_to_its_end
from thunderctl.errors import ThunderError
from thunderctl.workload import CodingTask, Workload

FINISH_MARKER = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""First output line of the command that ends the task; what follows is the patch (mini-SWE-agent's contract)."""
_COMMAND = re.compile(r"```(?:bash|sh|mswea_bash_command)\s*\n(.*?)\n```", re.DOTALL)
PATCH_FILE = ".thunderctl-submission.patch"
JUDGE_FILE = ".thunderctl_judge.py"

_JUDGE = """\
import io, json, sys, unittest
outcome = {}
for name in sys.argv[1:]:
    suite = unittest.defaultTestLoader.loadTestsFromName(name)
    result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    outcome[name] = result.testsRun > 0 and result.wasSuccessful()
print()
print(json.dumps(outcome))
"""
"""Runs inside the environment: each test by its id, and one line of JSON at the end."""


@dataclass(slots=True)
class Rollout:
    """One agent's run from start to end, as it is stored. Times in seconds since the run began."""

    agent: str
    program: str
    instance_id: str
    kind: str
    """``live`` or ``replay``."""
    status: str = "running"
    """``submitted``, ``step limit``, ``format errors``, ``trajectory ended`` or ``failed``."""
    error: str | None = None
    started: float = 0.0
    ended: float = 0.0
    prepare_s: float = 0.0
    """How long preparing its environment took."""
    environment_wait_s: float = 0.0
    """How much of that the agent had to wait for; the rest passed while it waited for a place or the model answered."""
    steps: int = 0
    patch: str = ""
    resolved: bool | None = None
    """Whether the task's tests pass with the patch; ``None`` if they were not run."""
    tests: dict[str, bool] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def fill(template: str, **values: object) -> str:
    """``{{name}}`` → value; other braces stay as they are."""
    return re.sub(r"\{\{(\w+)\}\}", lambda m: str(values[m.group(1)]) if m.group(1) in values else m.group(0), template)


def commands_of(answer: str) -> list[str]:
    """The fenced bash blocks of an answer."""
    return [block.strip() for block in _COMMAND.findall(answer)]


def clip(text: str, limit: int) -> str:
    """At most ``limit`` characters, head and tail kept, and a line that says what is missing."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def submission_of(result: ToolResult) -> str | None:
    """The patch, if this command submitted one."""
    first, _, rest = result.output.lstrip().partition("\n")
    return rest if result.returncode == 0 and first.strip() == FINISH_MARKER else None


class CodingAgent:
    """One agent on one task. ``on_step`` is told of each step as it ends."""

    def __init__(
        self,
        client: DaemonClient,
        workload: Workload,
        task: CodingTask,
        rollout: Rollout,
        run: str,
        clock: Callable[[], float],
        on_step: Callable[[Rollout, dict[str, Any]], None],
    ) -> None:
        self._client = client
        self._workload = workload
        self._task = task
        self._rollout = rollout
        self._run = run
        self._clock = clock
        self._on_step = on_step

    async def run(self) -> None:
        """Work until the task is submitted, a limit is reached or something fails; the rollout says which."""
        await run_to_its_end(self._client, self._rollout, self._clock, self._in_an_environment)

    async def _in_an_environment(self) -> str:
        lease = await self._environment(self._rollout.program, wait=False)
        return await self._work(lease)

    async def _environment(self, program: str, *, wait: bool) -> Lease:
        spec = self._workload.environment
        return await self._client.environment(
            program,
            self._run,
            image=self._task.image or spec.image,
            files=self._task.files,
            setup=spec.setup,
            env=spec.env,
            wait=wait,
        )

    async def _work(self, lease: Lease) -> str:
        prompts, limits, rollout = self._workload.prompts, self._workload.limits, self._rollout
        recorded = self._task.answers if rollout.kind == "replay" else None
        # Without a line of its own an agent would share the cache of another on the same task: in life it would not.
        tag = f"Session {self._run}, {rollout.agent}."
        messages = [
            {"role": "system", "content": prompts.system},
            {"role": "user", "content": fill(prompts.instance, tag=tag, task=self._task.problem_statement)},
        ]
        malformed = 0
        for number in range(limits.steps):
            if recorded is not None and number >= len(recorded):
                return "trajectory ended"
            began = self._clock()
            answer = await self._client.chat(
                rollout.program,
                messages,
                max_tokens=limits.output_tokens,
                replay=recorded[number] if recorded is not None else None,
            )
            messages.append({"role": "assistant", "content": answer.content})
            step: dict[str, Any] = {
                "agent": rollout.agent,
                "step": number + 1,
                "at": began,
                "content": answer.content,
                **{k: v for k, v in asdict(answer).items() if k != "content"},
            }
            if recorded is not None and answer.content != recorded[number]:
                raise ThunderError(f"step {number + 1}: the engine did not emit the recorded answer")
            found = commands_of(answer.content)
            if len(found) != 1:
                malformed += 1
                observation = fill(prompts.format_error, found=len(found))
                step |= {"command": None, "tool_s": 0.0, "ended": self._clock()}
                self._note(step, observation)
                if malformed >= limits.format_errors:
                    return "format errors"
            else:
                malformed = 0
                tool_began = time.monotonic()
                result = await self._client.execute(lease, found[0])
                observation = self._observation(result)
                rollout.prepare_s = result.prepared_s
                rollout.environment_wait_s += result.waited_s
                step |= {
                    "command": found[0],
                    "tool_s": time.monotonic() - tool_began - result.waited_s,
                    "returncode": result.returncode,
                    "timed_out": result.timed_out,
                    "ended": self._clock(),
                }
                self._note(step, observation)
                patch = submission_of(result)
                if patch is not None:
                    rollout.patch = patch
                    return "submitted"
            messages.append({"role": "user", "content": observation})
        return "step limit"

    def _observation(self, result: ToolResult) -> str:
        prompts, limit = self._workload.prompts, self._workload.limits.observation_chars
        output = clip(result.output, limit)
        if result.timed_out:
            return fill(prompts.timeout, seconds=round(result.duration_s), output=output)
        return fill(prompts.observation, returncode=result.returncode, output=output)

    def _note(self, step: dict[str, Any], observation: str) -> None:
        self._rollout.steps += 1
        step["observation"] = observation
        self._on_step(self._rollout, step)

    # ------------------------------------------------------------------ judging the patch

    async def judge(self) -> None:
        """Run the task's tests on the submitted patch, in a fresh environment of the untouched repository."""
        rollout, task = self._rollout, self._task
        if not task.can_be_judged or rollout.status != "submitted":
            return
        program = f"{rollout.program}.judge"
        try:
            lease = await self._environment(program, wait=True)
            rollout.resolved, rollout.tests = await self._judge_in(lease)
        except ThunderError as failure:
            rollout.error = f"not judged: {failure.message}"
        finally:
            await asyncio.shield(self._client.release(program))

    async def _judge_in(self, lease: Lease) -> tuple[bool, dict[str, bool]]:
        task = self._task
        wanted = [*task.fail_to_pass, *task.pass_to_pass]
        if not self._rollout.patch.strip():
            return False, dict.fromkeys(wanted, False)
        await self._client.put_files(lease, {PATCH_FILE: self._rollout.patch.encode()})
        applied = await self._client.execute(lease, f"git apply {PATCH_FILE}")
        if applied.returncode:
            return False, dict.fromkeys(wanted, False)
        files = {JUDGE_FILE: _JUDGE.encode()}
        if task.hidden is not None:
            for path in sorted(p for p in task.hidden.rglob("*") if p.is_file()):
                files[str(path.relative_to(task.hidden))] = path.read_bytes()
        await self._client.put_files(lease, files)
        result = await self._client.execute(lease, f"python3 {JUDGE_FILE} {' '.join(wanted)}")
        try:
            outcome = json.loads(result.output.rstrip().rpartition("\n")[2])
        except json.JSONDecodeError:
            return False, dict.fromkeys(wanted, False)
        tests = {name: outcome.get(name) is True for name in wanted}
        return all(tests.values()), tests
