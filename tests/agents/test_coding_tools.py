"""The heavy coding agent against an engine that says what the test wants, with tools that really run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.agents.tool_node import call, tool_node
from thunderctl.agents.client import Answer, DaemonClient, ToolCall
from thunderctl.agents.tool_schemas import SCHEMAS, BadCall, arguments_of, calls_of
from thunderctl.workers.launch import Worker
from thunderctl.workload.coding import CodingTask
from thunderctl.workload.coding_tools import CodingToolsWorkload
from thunderctl.workload.files import RecordedObservation, RecordedStep

WORKLOAD = CodingToolsWorkload.model_validate(
    {
        "name": "w",
        "kind": "coding-tools",
        "description": "d",
        "limits": {"steps": 6, "format_errors": 2},
        "prompts": {
            "system": "S",
            "instance": "{{tag}}\n{{task}}",
            "observation": "{{output}}[{{returncode}}]",
            "timeout": "late {{output}}",
            "reminder": "call a tool",
        },
    }
)
FIX = call("edit_file", action="replace", path="m.py", old="1", new="2")
FINISH = call("finish", message="done")


def task(folder: Path, *recorded: RecordedStep) -> CodingTask:
    """``m.py`` holds 1 and should hold 2."""
    (folder / "task/repo/tests").mkdir(parents=True)
    (folder / "task/hidden/tests").mkdir(parents=True)
    (folder / "task/repo/m.py").write_text("X = 1\n")
    (folder / "task/repo/tests/__init__.py").write_text("")
    (folder / "task/hidden/tests/test_m.py").write_text(
        "import unittest, m\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(m.X, 2)\n"
    )
    return CodingTask(
        instance_id="t-1",
        folder=folder / "task",
        files=folder / "task/repo",
        hidden=folder / "task/hidden",
        trajectory=list(recorded) or None,
        problem_statement="X should be 2",
        fail_to_pass=["tests.test_m.T.test"],
    )


async def test_an_agent_works_by_tool_calls_until_it_finishes_and_is_judged(tmp_path: Path) -> None:
    look = call("bash", "I look.", command="cat m.py")
    async with tool_node(tmp_path, look, call("think", thought="2"), FIX, FINISH) as node:
        rollout = await node.run(WORKLOAD, task(tmp_path))
    assert (rollout.status, rollout.steps, rollout.resolved, rollout.error) == ("submitted", 4, True, None)
    assert "+X = 2" in rollout.submission
    assert [step["tool"] for step in node.steps] == ["bash", "think", "edit_file", "finish"]
    assert node.steps[0]["observation"] == "X = 1\n[0]" and node.steps[1]["observation"] == "Noted."
    last = node.requests[-1]
    assert last["tools"] == SCHEMAS
    assert [m["role"] for m in last["messages"]] == ["system", "user", *["assistant", "tool"] * 3]
    said, result = last["messages"][2:4]
    assert said["content"] == "I look.\n" and said["tool_calls"][0]["function"]["name"] == "bash"
    assert result["tool_call_id"] == said["tool_calls"][0]["id"]


async def test_an_engine_that_leaves_calls_in_the_text_does_as_well(tmp_path: Path) -> None:
    async with tool_node(tmp_path, FIX, FINISH, parses=False) as node:
        rollout = await node.run(WORKLOAD, task(tmp_path))
    assert (rollout.status, rollout.resolved) == ("submitted", True)


async def test_an_answer_without_a_call_is_reminded_and_several_in_a_row_end_the_work(tmp_path: Path) -> None:
    async with tool_node(tmp_path, "I think.", FIX, "Hm.", "Hm.") as node:
        rollout = await node.run(WORKLOAD, task(tmp_path))
    assert (rollout.status, rollout.steps) == ("format errors", 4)
    assert node.requests[1]["messages"][-1] == {"role": "user", "content": "call a tool"}


async def test_calls_that_cannot_be_carried_out_are_answered_and_sent_back_as_valid_json(tmp_path: Path) -> None:
    broken = 'x <tool_call>{"name": "bash", "arguments": {"command": }</tool_call>'
    unknown, short = call("browse", url="x"), call("edit_file", action="view")
    async with tool_node(tmp_path, broken, unknown, short, FIX, FINISH, parses=False) as node:
        rollout = await node.run(WORKLOAD, task(tmp_path))
    assert rollout.status == "submitted"
    told = [m["content"] for m in node.requests[-1]["messages"] if m["role"] == "tool"]
    assert "no tool ''" in told[0] and "no tool 'browse'" in told[1] and "needs the argument `path`" in told[2]
    for message in node.requests[-1]["messages"]:
        for each in message.get("tool_calls", []):
            assert isinstance(json.loads(each["function"]["arguments"]), dict) and each["function"]["name"]


async def test_several_calls_of_one_answer_are_carried_out_in_order(tmp_path: Path) -> None:
    both = FIX + call("bash", "", command="cat m.py; exit 3").strip()
    async with tool_node(tmp_path, both, FINISH) as node:
        rollout = await node.run(WORKLOAD, task(tmp_path))
    assert rollout.resolved is True
    assert node.steps[0]["tool_calls"] == ["edit_file", "bash"] and node.steps[0]["returncode"] == 3
    assert node.steps[0]["observation"].endswith("X = 2\n[3]")


async def test_the_step_limit_ends_the_work(tmp_path: Path) -> None:
    async with tool_node(tmp_path, *[call("think", thought="…")] * 6) as node:
        rollout = await node.run(WORKLOAD, task(tmp_path))
    assert (rollout.status, rollout.resolved) == ("step limit", None)


async def test_a_replay_forces_the_recorded_calls_and_counts_drift(tmp_path: Path) -> None:
    steps = [
        RecordedStep(content=call("bash", command="exit 4"), observation=RecordedObservation(returncode=0)),
        RecordedStep(content=FIX, observation=RecordedObservation(returncode=0)),
        RecordedStep(content=FINISH, observation=RecordedObservation(returncode=0)),
    ]
    async with tool_node(tmp_path) as node:
        rollout = await node.run(WORKLOAD, task(tmp_path, *steps), "replay")
    assert (rollout.status, rollout.resolved, rollout.drifted) == ("submitted", True, 1)
    assert [request["vllm_xargs"]["replay"] for request in node.requests] == [step.content for step in steps]


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("bash", "{}", "needs the argument `command`"),
        ("bash", '{"command": 7}', "must be a text"),
        ("bash", '{"command": "ls", "cwd": "/"}', "has no argument `cwd`"),
        ("bash", "[]", "must be a JSON object"),
        ("bash", "{", "not valid JSON"),
        ("shell", "{}", "no tool 'shell'"),
    ],
)
def test_arguments_are_checked_against_the_schema(name: str, arguments: str, reason: str) -> None:
    with pytest.raises(BadCall, match=reason):
        arguments_of(ToolCall("c", name, arguments))


def test_a_call_that_was_cut_off_is_still_a_call() -> None:
    answer = Answer('so <tool_call>{"name": "bash", "argu', "length", 1, 0, 1, 0.1, 0.0, "w", 1)
    (found,) = calls_of(answer)
    assert found.name == "" and found.arguments.startswith('{"name"')


@pytest.mark.engine
async def test_the_engine_makes_calls_of_a_forced_text_and_caches_them_in_the_next_prompt(
    engine_worker: Worker, tmp_path: Path
) -> None:
    said = call("edit_file", "I write – and {braces}.", action="create", path="a.py", text='x = "\\t\n</p>"\n')
    async with DaemonClient(engine_worker.url, model="small") as client:
        messages = [{"role": "system", "content": "S " * 300}, {"role": "user", "content": "U"}]
        first = await client.chat("p", messages, max_tokens=400, replay=said, tools=SCHEMAS)
        (found,) = first.tool_calls
        assert json.loads(found.arguments)["text"] == 'x = "\\t\n</p>"\n' and first.finish_reason == "tool_calls"
        messages += [
            {
                "role": "assistant",
                "content": first.content.partition("<tool_call>")[0],
                "tool_calls": [
                    {"id": found.id, "type": "function", "function": {"name": found.name, "arguments": found.arguments}}
                ],
            },
            {"role": "tool", "tool_call_id": found.id, "content": "created"},
        ]
        second = await client.chat("p", messages, max_tokens=400, replay=call("think", thought="x"), tools=SCHEMAS)
    whole_blocks = (first.prompt_tokens + first.output_tokens - 1) // 32 * 32
    assert second.cached_tokens >= whole_blocks
