"""mini-SWE-agent's own ``DefaultAgent`` works through the gateway, in our environments, as it is."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from minisweagent.agents.default import DefaultAgent

from tests.bundled import bundled_task
from tests.commandline import ENGINE, CommandLine, until
from tests.runs.stub_node import StubNode, a_stub_node
from thunderctl import launcher
from thunderctl.agents.judging import judge_patch
from thunderctl.integrations.mini_swe_agent import FINISH_MARKER, GatewayModel, LeasedEnvironment
from thunderctl.integrations.program import Program

TASK = "fieldpress__cut-in-quotes-1590"
TEMPLATES = {"system_template": "You repair.", "instance_template": "{{task}}"}


def command(text: str) -> str:
    return f"THOUGHT: next\n\n```bash\n{text}\n```"


def run_on(node: StubNode, replay: list[str], **agent: Any) -> tuple[dict[str, Any], DefaultAgent]:
    with Program("mini", client=node.client()) as program:
        one = DefaultAgent(GatewayModel(program, replay=replay), LeasedEnvironment(program), **TEMPLATES, **agent)
        return one.run("Repair it."), one


async def test_the_agent_ends_after_the_last_recorded_answer_and_saves_what_it_did(tmp_path: Path) -> None:
    async with a_stub_node() as node:
        ended, agent = await asyncio.to_thread(
            run_on, node, [command("ls"), "no command", command("pwd")], output_path=tmp_path / "saved.json"
        )
        assert ended["exit_status"] == "TrajectoryEnded" and node.released == ["mini"]
        assert [call["program_id"] for call in node.engine.calls] == ["mini"] * 3
        assert node.engine.calls[0]["messages"] == [
            {"role": "system", "content": "You repair."},
            {"role": "user", "content": "Repair it."},
        ]
    said = [message["content"] for message in agent.messages]
    assert said[3] == "<returncode>0</returncode>\n<output>\ndone</output>"
    assert "Expected exactly 1 action, found 0" in said[4]
    saved = json.loads((tmp_path / "saved.json").read_text())
    assert saved["info"]["config"]["model_type"].endswith("mini_swe_agent.GatewayModel")
    assert saved["info"]["config"]["environment_type"].endswith("mini_swe_agent.LeasedEnvironment")


async def test_limits_of_the_agent_hold(tmp_path: Path) -> None:
    async with a_stub_node() as node:
        ended, agent = await asyncio.to_thread(run_on, node, [command("ls")] * 9, step_limit=4)
    assert (ended["exit_status"], agent.n_calls) == ("LimitsExceeded", 4)


def test_litellm_is_not_imported() -> None:
    script = (
        "import sys\nimport minisweagent.agents.default\nimport thunderctl.integrations.mini_swe_agent\n"
        "assert 'litellm' not in sys.modules and 'openai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "MSWEA_SILENT_STARTUP": "1"})


async def passes(patch: str) -> bool:
    async with launcher.need().client() as client:
        try:
            lease = await client.environment("judge", "judge", files=bundled_task(TASK).files)
            return (await judge_patch(client, lease, bundled_task(TASK), patch))[0]
        finally:
            await client.release("judge")


@pytest.mark.engine
def test_the_default_agent_solves_a_bundled_task_and_its_program_ends_whatever_happens(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("THUNDERCTL_HOME", str(cli.home))
    cli.json("up", "laptop", *ENGINE, "-c", "environments.backend=local")
    said = tmp_path / "said.json"
    example = [sys.executable, "-m", "thunderctl.integrations.mini_swe_agent_example", "--task", TASK, "--replay"]
    done = subprocess.run([*example, "--output", str(said)], env=cli.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Submitted after" in done.stderr
    patch = done.stdout[done.stdout.index("diff --git") :]
    assert json.loads(said.read_text())["info"]["submission"] == patch
    assert asyncio.run(passes(patch)) and not asyncio.run(passes("diff --git a/x b/x\n"))
    assert cli.json("ps") == {}

    # What fails in the middle: the daemon refuses an answer that is longer than the model's context.
    with pytest.raises(Exception, match="max"), Program("broken") as program:
        model = GatewayModel(program, max_tokens=10**6)
        DefaultAgent(model, LeasedEnvironment(program), **TEMPLATES).run("Repair it.")
    # A command that submits, by the real environment, with files and variables of its own.
    with Program("short") as program:
        environment = LeasedEnvironment(program, files=bundled_task(TASK).files, env={"WHO": "me"}, cwd="/testbed")
        last = command(f"echo {FINISH_MARKER}; echo $WHO; ls setup.py pyproject.toml 2>/dev/null; true")
        ended = DefaultAgent(GatewayModel(program, replay=[last]), environment, **TEMPLATES).run("Repair it.")
    assert ended["exit_status"] == "Submitted" and ended["submission"].startswith("me\n")
    assert cli.json("ps") == {}
    until(lambda: not any(each["state"] != "reclaimed" for each in cli.json("env", "ls")["environments"]))
    cli.json("down")
    assert cli.nothing_runs()
