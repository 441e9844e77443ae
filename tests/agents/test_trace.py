"""The trace agent sends what the trace says, and notices when the engine does not."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs.stub_node import BLOCK, StubNode, a_stub_node
from thunderctl.agents.desk import Desk
from thunderctl.agents.trace import IDS, Context, ProgramRollout, TraceAgent
from thunderctl.traces.trace import Assignment, TraceProgram, TraceStep

steps = st.builds(TraceStep, st.integers(1, 60), st.integers(0, 40), st.integers(0, 60), st.just(0.0))


@st.composite
def assignments(draw: st.DrawFn) -> Assignment:
    first_prompt = draw(st.integers(1, 200))
    program = TraceProgram(
        id=draw(st.sampled_from(["a", "b"])),
        first_prompt=first_prompt,
        steps=tuple(draw(st.lists(steps, min_size=1, max_size=6))),
        group=draw(st.sampled_from([None, "g"])),
        shared_prefix=draw(st.integers(0, first_prompt)),
        context_limit=draw(st.none() | st.integers(1, 300)),
    )
    return Assignment(draw(st.sampled_from(["p0", "p1"])), program, draw(st.integers(0, len(program.steps) - 1)))


def walk(assignment: Assignment, run: str = "r") -> list[tuple[list[int], list[int]]]:
    """Every call of the assignment: prompt and what is emitted."""
    context, calls = Context(assignment, run), []
    for step in assignment.program.steps[assignment.first_step :]:
        calls.append(context.call(step))
        context.observe(step)
    return calls


@settings(deadline=None)
@given(assignments())
def test_calls_are_as_long_as_the_trace_says(assignment: Assignment) -> None:
    program = assignment.program
    for number, (prompt, emitted) in enumerate(walk(assignment), assignment.first_step):
        whole = program.prompt_at(number)
        assert len(prompt) == min(whole, program.context_limit or whole)
        assert len(emitted) == program.steps[number].output + program.steps[number].reasoning
        assert set(prompt) | set(emitted) <= set(IDS)


@settings(deadline=None)
@given(assignments())
def test_each_prompt_goes_on_where_the_last_call_ended_without_its_reasoning(assignment: Assignment) -> None:
    program = assignment.program
    calls = walk(assignment)
    for number, ((prompt, emitted), (after, _)) in enumerate(zip(calls, calls[1:], strict=False)):
        step = program.steps[assignment.first_step + number]
        kept = [*prompt, *emitted[step.reasoning :]]
        if program.context_limit is None:
            assert after[: len(kept)] == kept
        elif len(after) == program.context_limit > step.observation:
            # Cut on the left: what remains of the past ends as it ended.
            past = after[: len(after) - step.observation]
            assert past[-len(kept) :] == kept[-len(past) :]


@given(assignments())
@settings(deadline=None)
def test_ids_follow_from_run_and_assignment_alone(assignment: Assignment) -> None:
    assert walk(assignment) == walk(assignment)
    assert walk(assignment, "another run")[0][1] != walk(assignment)[0][1] or len(walk(assignment)[0][1]) < 3


def long_program(**more: Any) -> TraceProgram:
    return TraceProgram("a", 200, (TraceStep(50, 0, 50, 0.0), TraceStep(50, 0, 0, 0.0)), **more)


def common(a: list[int], b: list[int]) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def test_only_what_the_trace_calls_shared_is_the_same_in_two_assignments() -> None:
    def first_prompts(**more: Any) -> tuple[list[int], list[int]]:
        program = long_program(**more)
        return walk(Assignment("p0", program, 0))[0][0], walk(Assignment("p1", program, 0))[0][0]

    # By chance one or two ids of 7,700 may agree beyond what is shared.
    assert common(*first_prompts()) <= 2
    assert 120 <= common(*first_prompts(shared_prefix=120)) <= 122
    assert common(*first_prompts(group="g")) == 200
    assert common(*first_prompts(group="g", shared_prefix=120)) == 200
    ours, theirs = (walk(Assignment(name, long_program(group="g"), 0)) for name in ("p0", "p1"))
    assert common(ours[1][0], theirs[1][0]) <= 202


def test_beginning_in_the_midst_takes_what_came_before_as_read() -> None:
    ((prompt, _),) = walk(Assignment("p0", long_program(shared_prefix=100), 1))
    assert len(prompt) == 300
    assert prompt[:100] == walk(Assignment("p1", long_program(shared_prefix=100), 0))[0][0][:100]


async def run_one(node: StubNode, assignment: Assignment, time_scale: float = 1.0) -> tuple[ProgramRollout, list[Any]]:
    began, seen = time.monotonic(), []
    rollout = ProgramRollout("agent-000", f"r/{assignment.id}", assignment.program.id, assignment.first_step)
    async with node.client() as client:
        desk = Desk(
            client, "r", lambda: (time.monotonic() - began) / time_scale, lambda _, step: seen.append(step), time_scale
        )
        agent = TraceAgent(desk, assignment, rollout)
        await agent.run()
    return rollout, seen


async def test_an_agent_runs_its_program_to_the_end_and_releases_it() -> None:
    program = TraceProgram("a", 100, (TraceStep(30, 20, 40, 0.05), TraceStep(10, 0, 0, 0.0)), group="g")
    async with a_stub_node() as node:
        rollout, seen = await run_one(node, Assignment("p0", program, 0))
        assert (rollout.status, rollout.error, rollout.steps) == ("finished", None, 2)
        assert node.tools == [("r/p0", "started"), ("r/p0", "finished")]
        assert node.released == ["r/p0"] and node.shell.scheduler.programs == {}
    assert [(s["prompt_tokens"], s["output_tokens"], s["step"]) for s in seen] == [(100, 50, 1), (170, 10, 2)]
    # Reasoning stood between prompt and answer, so the second prompt can hit the first one's full blocks only.
    assert [s["cached_tokens"] for s in seen] == [0, 100 // BLOCK * BLOCK]
    assert {(s["worker"], s["command"], s["attempts"]) for s in seen} == {("w0", "(recorded tool)", 1)}
    first, second = node.engine.calls
    assert first["max_tokens"] == 50 == len(first["vllm_xargs"]["replay"])
    assert first["ignore_eos"] is True and first["group_id"] == "g" and "group_id" in second
    assert second["prompt"][:130] == [*first["prompt"], *first["vllm_xargs"]["replay"][20:]]


async def test_without_reasoning_the_whole_past_is_hit() -> None:
    program = TraceProgram("a", 160, (TraceStep(33, 0, 40, 0.0), TraceStep(10, 0, 0, 0.0)))
    async with a_stub_node() as node:
        _, seen = await run_one(node, Assignment("p0", program, 0))
    assert seen[1]["cached_tokens"] == 192


async def test_an_engine_that_emits_another_number_of_tokens_fails_the_rollout() -> None:
    async with a_stub_node() as node:
        node.engine.missing = 1
        rollout, seen = await run_one(node, Assignment("p0", long_program(), 0))
        assert node.released == ["r/p0"]
    assert rollout.status == "failed" and rollout.error == "call 1: the engine emitted 49 tokens, not 50"
    assert seen == []


async def test_a_slow_nodes_times_are_told_in_its_own_seconds() -> None:
    program = TraceProgram("a", 50, (TraceStep(5, 0, 5, 0.1), TraceStep(5, 0, 0, 0.0)))
    async with a_stub_node() as node:
        node.engine.delay_s = 0.1
        began = time.monotonic()
        rollout, seen = await run_one(node, Assignment("p0", program, 0), time_scale=4.0)
        wall = time.monotonic() - began
    assert seen[0]["tool_s"] >= 0.1 and wall >= 4 * 0.1 + 2 * 0.1
    assert rollout.ended <= wall / 4
    for step in seen:
        assert 0.1 / 4 <= step["latency_s"] <= step["ended"] - step["at"]
        assert step["ended"] <= wall / 4
