"""mini-SWE-agent as a client: its own agents, unchanged, with our model and our environment behind them.

A :class:`Program` is one agent as the node knows it. Model calls go through the gateway under its name, commands run in
an environment that is leased to it, and both end with it::

    from minisweagent.agents.default import DefaultAgent
    from thunderctl.integrations.mini_swe_agent import GatewayModel, LeasedEnvironment
    from thunderctl.integrations.program import Program

    with Program() as program:                      # thunderctl up must have been run
        model = GatewayModel(program)
        environment = LeasedEnvironment(program, image="python:3.12-slim", files=Path("my-repository"))
        agent = DefaultAgent(model, environment, system_template=…, instance_template=…)
        agent.run("The tests fail since yesterday: find out why.")

``python -m thunderctl.integrations.mini_swe_agent_example`` does that with a bundled task. Wants the extra
``mini-swe-agent``; litellm, which comes with it, is never imported.
"""

from __future__ import annotations

import platform
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from thunderctl.integrations.program import Program

try:
    from minisweagent.exceptions import LimitsExceeded, Submitted
    from minisweagent.models.utils.actions_text import format_observation_messages, parse_regex_actions
except ImportError as missing:
    raise ImportError("this wants mini-SWE-agent: pip install 'thunderctl[mini-swe-agent]'") from missing

FINISH_MARKER = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""First output line of the command that submits; what follows is the patch."""


class GatewayModelConfig(BaseModel):
    """Settings of :class:`GatewayModel`, named as mini-SWE-agent's own text-based model names them."""

    model_name: str
    max_tokens: int = 4096
    """Longest answer, in tokens."""
    temperature: float | None = None
    action_regex: str = r"```(?:mswea_bash_command|bash|sh)\s*\n(.*?)\n```"
    observation_template: str = (
        "{% if output.exception_info %}<exception>{{output.exception_info}}</exception>\n{% endif %}"
        "<returncode>{{output.returncode}}</returncode>\n<output>\n{{output.output}}</output>"
    )
    format_error_template: str = (
        "Format error: {{error}}\n\nGive exactly one command in one fenced block:\n\n```bash\nyour command\n```"
    )


class GatewayModel:
    """A model of the node, through its gateway. Commands are fenced blocks in the answer's text.

    ``replay``: recorded answers that the engine is forced to give in turn (a profile with ``workers.replay``). After
    the last one the agent ends.
    """

    def __init__(self, program: Program, *, replay: Sequence[str] | None = None, **config: Any) -> None:
        self._program = program
        self._recorded = None if replay is None else iter(replay)
        self.config = GatewayModelConfig(**{"model_name": program.model, **config})

    def query(self, messages: list[dict[str, Any]], **_: Any) -> dict[str, Any]:
        """One call. ``FormatError`` unless the answer holds exactly one command."""
        config = self.config
        said = [{"role": message["role"], "content": message["content"]} for message in messages]
        answer = self._program.chat(
            said, max_tokens=config.max_tokens, temperature=config.temperature, replay=self._next_recorded()
        )
        actions = parse_regex_actions(
            answer.content,
            action_regex=config.action_regex,
            format_error_template=config.format_error_template,
            template_kwargs={"finish_reason": answer.finish_reason},
        )
        usage = {
            "prompt_tokens": answer.prompt_tokens,
            "cached_tokens": answer.cached_tokens,
            "completion_tokens": answer.output_tokens,
        }
        extra = {
            "actions": actions,
            "cost": 0.0,
            "timestamp": time.time(),
            "usage": usage,
            "held_s": answer.held_s,
            "worker": answer.worker,
        }
        return {"role": "assistant", "content": answer.content, "extra": extra}

    def _next_recorded(self) -> str | None:
        if self._recorded is None:
            return None
        answer = next(self._recorded, None)
        if answer is None:
            ended = {"exit_status": "TrajectoryEnded", "submission": ""}
            raise LimitsExceeded({"role": "exit", "content": "TrajectoryEnded", "extra": ended})
        return answer

    def format_message(self, **message: Any) -> dict[str, Any]:
        return message

    def format_observation_messages(
        self, message: dict[str, Any], outputs: list[dict[str, Any]], template_vars: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = format_observation_messages(
            outputs, observation_template=self.config.observation_template, template_vars=template_vars
        )
        return found

    def get_template_vars(self, **_: Any) -> dict[str, Any]:
        return self.config.model_dump()

    def serialize(self) -> dict[str, Any]:
        return _told("model", self.config, self)


class LeasedEnvironmentConfig(BaseModel):
    """Settings of :class:`LeasedEnvironment`."""

    image: str | None = None
    """A name, ``base:NAME``, ``build:FOLDER`` or ``import:FILE``; without it the node's own default."""
    files: Path | None = None
    """A folder that is copied to where commands run."""
    setup: list[str] = []
    env: dict[str, str] = {}
    cwd: str = ""
    """Where commands run, if not in the environment's working directory, ``/testbed``."""
    timeout: float | None = None
    """Seconds of one command; without it the profile's limit holds."""


class LeasedEnvironment:
    """An environment of the node, leased to the program: prepared from now on, and reclaimed with it."""

    def __init__(self, program: Program, **config: Any) -> None:
        self._program = program
        self.config = LeasedEnvironmentConfig(**config)
        said = self.config
        program.environment(image=said.image, files=said.files, setup=said.setup, env=said.env)

    def execute(self, action: dict[str, Any], cwd: str = "", *, timeout: float | None = None) -> dict[str, Any]:
        """Run ``action["command"]``. ``Submitted`` if its output says that the task is done."""
        command, where = action.get("command", ""), cwd or self.config.cwd
        if where:
            command = f"cd {shlex.quote(where)} || exit\n{command}"
        result = self._program.execute(command, timeout or self.config.timeout)
        output = {"output": result.output, "returncode": result.returncode, "exception_info": ""}
        if result.timed_out:
            output |= {"returncode": -1, "exception_info": f"The command was ended after {result.duration_s:.0f} s."}
        first, _, rest = result.output.lstrip().partition("\n")
        if first.strip() == FINISH_MARKER and output["returncode"] == 0:
            raise Submitted(
                {"role": "exit", "content": rest, "extra": {"exit_status": "Submitted", "submission": rest}}
            )
        return output

    def get_template_vars(self, **more: Any) -> dict[str, Any]:
        return {**self.config.model_dump(), **platform.uname()._asdict(), **more}

    def serialize(self) -> dict[str, Any]:
        return _told("environment", self.config, self)


def _told(what: str, config: BaseModel, of: object) -> dict[str, Any]:
    """Their part of the trajectory that the agent saves."""
    kind = f"{type(of).__module__}.{type(of).__name__}"
    return {"info": {"config": {what: config.model_dump(mode="json"), f"{what}_type": kind}}}
