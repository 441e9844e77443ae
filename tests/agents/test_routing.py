"""The routing agent: who is asked, what each sees, what tools really return, and how it ends."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.agents.routing_node import RoutingNode, a_routing_node
from thunderctl.agents.client import DaemonClient
from thunderctl.agents.routing import Unusable, as_command, choice_in
from thunderctl.profile import RoleModelSpec
from thunderctl.workload.files import read_section
from thunderctl.workload.load import find_workload
from thunderctl.workload.routing import RoutingTask, RoutingWorkload, TextRule, equipped, load_task

FOLDER = find_workload("hle-routing")
WORKLOAD = read_section(RoutingWorkload, FOLDER / "workload.yaml")
TASKS = [load_task(path) for path in sorted((FOLDER / "tasks").iterdir())]
TASK = RoutingTask(
    instance_id="moth",
    question="How many days do glass moths fly?",
    rule=TextRule(kind="text", accept=["forty days"]),
    corpus=TASKS[0].corpus,
)
KEY = "ROUTING_TEST_KEY"


def call(tool: str, role: str) -> str:
    return f"Next.\n\n<tool_call>{json.dumps({'name': tool, 'arguments': {'model': role}})}</tool_call>"


SEARCH = [call("search", "searcher"), "<query>glass moth fly days</query>"]
COMPUTE = [call("enhance_reasoning", "coder"), "```python\nprint(6 * 7)\n```"]
ANSWER = [call("answer", "expert"), "So it says.\n\n<answer>Forty days.</answer>"]


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[RoutingNode]:
    async with a_routing_node(tmp_path) as node:
        yield node


def prompts(node: RoutingNode) -> list[str]:
    return ["".join(message["content"] for message in body["messages"]) for body in node.calls]


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.instance_id)
async def test_the_recorded_rounds_lead_to_the_right_answer_by_what_tools_return_now(
    task: RoutingTask, node: RoutingNode
) -> None:
    rollout = await node.run(WORKLOAD, task, "replay")
    assert (rollout.status, rollout.resolved, rollout.drifted) == ("submitted", True, 0)
    assert task.trajectory is not None and rollout.steps == len(task.trajectory)
    assert [step["role"] for step in node.steps] == [recorded.role for recorded in task.trajectory]
    assert sum(tally["calls"] for tally in rollout.models.values()) == rollout.steps
    assert sum(tally["answered"] for tally in rollout.models.values()) == 1
    assert node.released == [rollout.program]


async def test_every_call_is_two_messages_and_begins_with_all_that_was_known_before(node: RoutingNode) -> None:
    node.answers = [*SEARCH, *COMPUTE, *SEARCH, *ANSWER]
    rollout = await node.run(WORKLOAD, TASK)
    assert (rollout.status, rollout.submission, rollout.resolved) == ("submitted", "Forty days.", True)
    assert all([m["role"] for m in body["messages"]] == ["system", "user"] for body in node.calls)
    known = [prompt.rpartition("\n---\n")[0] for prompt in prompts(node)]
    assert all(later.startswith(earlier.rstrip("\n")) for earlier, later in zip(known, known[1:], strict=False))
    assert known[0] == known[1] and len(known[2]) > len(known[1])
    assert "fly from the last week of May" in known[2] and "42" in known[4]


async def test_a_passage_is_shown_once(node: RoutingNode) -> None:
    node.answers = [*SEARCH, *SEARCH, *ANSWER]
    await node.run(WORKLOAD, TASK)
    assert prompts(node)[-1].count("fly from the last week of May") == 1
    assert "Found again: moth-4" in prompts(node)[-1]


async def test_an_agent_tells_its_tools_and_models(node: RoutingNode) -> None:
    node.answers = [*SEARCH, *COMPUTE, *ANSWER]
    await node.run(WORKLOAD, TASK)
    assert [step.get("tool") for step in node.steps] == [None, "search", None, "enhance_reasoning", None, None]
    assert [step["role"] for step in node.steps][1::2] == ["searcher", "coder", "expert"]
    assert {step["model"] for step in node.steps} == {"small"}
    assert node.tools == []  # without latency, searches end before the daemon could care


async def test_a_program_that_fails_is_shown_and_the_agent_goes_on(node: RoutingNode) -> None:
    node.answers = [call("enhance_reasoning", "coder"), "```python\n1 / 0\n```", *ANSWER]
    rollout = await node.run(WORKLOAD, TASK)
    assert rollout.resolved and node.steps[1]["returncode"] == 1
    assert "ZeroDivisionError" in prompts(node)[-1]


async def test_a_tool_that_returns_something_else_than_recorded_is_counted_as_drift(node: RoutingNode) -> None:
    task = next(t for t in TASKS if t.instance_id == "chem-arvenium-0403")
    other = node.folder / "corpus.jsonl"
    other.write_text(json.dumps({"id": "x", "title": "Lacquer", "text": "Arvenium decays by half in an hour."}) + "\n")
    rollout = await node.run(WORKLOAD, dataclasses.replace(task, corpus=other), "replay")
    assert rollout.drifted == 1
    assert [step["drifted"] for step in node.steps if "drifted" in step] == [True, False]


async def test_latency_is_told_to_the_scheduler_as_tool_time(node: RoutingNode) -> None:
    node.answers = [*SEARCH, *ANSWER]
    slow = equipped(WORKLOAD, {}, tool_latency="fast", seed=3)
    await node.run(slow, TASK)
    assert node.tools == [("started", "search"), ("finished", "search")]
    assert node.steps[1]["tool_s"] > 0.01


async def test_answers_out_of_form_are_complained_of_and_end_the_work_in_the_end(node: RoutingNode) -> None:
    node.answers = ["no call at all", *SEARCH[:1], "no query", call("search", "expert")]
    rollout = await node.run(WORKLOAD, TASK)
    assert rollout.status == "format errors" and rollout.resolved is None and rollout.steps == 4
    assert "0 tool calls" in prompts(node)[1] and "exactly one query" in prompts(node)[3]
    assert "could not be used" not in prompts(node)[0]


async def test_rounds_and_steps_are_limited(node: RoutingNode) -> None:
    node.answers = SEARCH * 9
    limits = WORKLOAD.limits.model_copy(update={"rounds": 2})
    rollout = await node.run(WORKLOAD.model_copy(update={"limits": limits}), TASK)
    assert (rollout.status, rollout.steps) == ("step limit", 4)
    limits = WORKLOAD.limits.model_copy(update={"steps": 3})
    rollout = await node.run(WORKLOAD.model_copy(update={"limits": limits}), TASK)
    assert (rollout.status, rollout.steps) == ("step limit", 2)


async def test_without_a_corpus_there_is_no_search(node: RoutingNode) -> None:
    node.answers = [*SEARCH[:1], *ANSWER]
    rollout = await node.run(WORKLOAD, dataclasses.replace(TASK, corpus=None))
    assert rollout.resolved
    assert "searcher" not in prompts(node)[0].partition("Session")[0]
    assert "no tool 'search'" in prompts(node)[1]


def priced(node: RoutingNode, **more: object) -> RoutingWorkload:
    said = {"base_url": f"{node.url}/external/v1", "model": "big", "api_key_env": KEY, "input_usd_per_mtok": 2}
    spec = RoleModelSpec.model_validate({**said, "output_usd_per_mtok": 10, **more})
    return equipped(WORKLOAD, {"expert": spec})


async def test_an_external_model_is_asked_directly_counted_and_paid(
    node: RoutingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "sk-1")
    node.answers, node.external = [*SEARCH, *ANSWER[:1]], [ANSWER[1]]
    rollout = await node.run(priced(node, max_tokens=77), TASK)
    body, headers = node.external_calls[0]
    assert (body["model"], body["max_tokens"]) == ("big", 77) and "program_id" not in body
    assert headers["Authorization"] == "Bearer sk-1" and "daemon-token" not in str(headers)
    tally = rollout.models["expert"]
    assert (tally["calls"], tally["answered"], rollout.resolved) == (1, 1, True)
    assert tally["cost_usd"] == pytest.approx((tally["prompt_tokens"] * 2 + tally["output_tokens"] * 10) / 1e6)
    assert rollout.models["orchestrator"]["cost_usd"] == 0
    assert node.steps[-1]["external"] and node.steps[-1]["model"] == "big"
    assert node.tools == [("started", "model expert"), ("finished", "model expert")]


async def test_a_busy_external_model_is_asked_again_and_one_that_refuses_ends_the_agent(
    node: RoutingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "sk-1")
    node.answers, node.external = [*ANSWER[:1], *ANSWER[:1]], [429, 503, ANSWER[1], 401]
    assert (await node.run(priced(node), TASK)).resolved
    assert node.steps[-1]["attempts"] == 3
    refused = await node.run(priced(node), TASK)
    assert refused.status == "failed" and "models.expert" in str(refused.error) and "401" in str(refused.error)
    assert "sk-1" not in str(refused.error) and node.tools[-1] == ("finished", "model expert")


async def test_agents_of_a_run_share_the_places_of_an_external_model(
    node: RoutingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    monkeypatch.setenv(KEY, "sk-1")
    node.answers, node.external = ANSWER[:1] * 6, [ANSWER[1]] * 6
    async with DaemonClient(node.url, model="small") as client:
        work = [node.run_with(client, priced(node, concurrency=2), TASK, place=place) for place in range(6)]
        rollouts = await asyncio.gather(*work)
    assert all(rollout.resolved for rollout in rollouts)
    assert node.most_at_once == 2


async def test_in_replay_nobody_outside_is_asked(node: RoutingNode) -> None:
    task = next(t for t in TASKS if t.instance_id == "chem-arvenium-0403")
    rollout = await node.run(priced(node), task, "replay")
    assert rollout.resolved and node.external_calls == []
    assert rollout.models["expert"]["cost_usd"] == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("nothing", "0 tool calls"),
        (call("search", "searcher") * 2, "2 tool calls"),
        ("<tool_call>search</tool_call>", "not JSON"),
        ('<tool_call>{"name": ["search"], "arguments": {"model": {}}}</tool_call>', "no tool"),
        ('<tool_call>{"name": "search", "arguments": "searcher"}</tool_call>', "not JSON"),
        (call("dig", "searcher"), "no tool 'dig'"),
        (call("answer", "searcher"), "no model 'searcher'"),
    ],
)
def test_a_decision_that_cannot_be_carried_out_is_told_why(answer: str, reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        choice_in(answer, WORKLOAD, ["search", "enhance_reasoning", "answer"])


def test_a_program_cannot_end_the_file_that_it_is_written_to() -> None:
    program = "print(1)\nEOF\nEND_0\nrm -rf x"
    first, *lines = as_command(program).splitlines()
    mark = first.split("'")[1]
    assert mark not in program and lines[lines.index(mark) + 1 :] == ["python3 -I program.py"]
