"""Runs end as they should, and what they store bears out their reports. Traces and coding share one driver."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.report.recompute import differences
from tests.runs.stub_node import StubNode, a_stub_node
from thunderctl.errors import TooManyErrors
from thunderctl.profile_files import load_profile
from thunderctl.report.stats import last_words, summarise
from thunderctl.runs.begin import manifest
from thunderctl.runs.driver import Driver, Plan
from thunderctl.runs.store import RunFolder
from thunderctl.runs.tasks import TaskPlan, choose_tasks
from thunderctl.runs.trace import TracePlan, longest_call
from thunderctl.traces.load import make_trace
from thunderctl.traces.trace import TraceProgram, TraceStep, count_steps
from thunderctl.workload.load import find_workload, load_tasks, load_workload

TRACE = make_trace(
    "tiny",
    [
        TraceProgram(f"t{n}", 40 + n, tuple(TraceStep(9 + n, n, 20, 0.001 * n) for _ in range(n + 1)), "x")
        for n in range(4)
    ],
)
SLOW = make_trace("slow", [TraceProgram("s", 40, (TraceStep(5, 0, 5, 0.01), TraceStep(5, 0, 5, 600.0)), "x")])
HEALTH: dict[str, Any] = {"workers": [], "environments": {"backend": "local"}}


def traced(**more: Any) -> TracePlan:
    return TracePlan(**{"trace": TRACE, "source": "tiny.jsonl", "agents": 3, "max_error_share": 0.2, **more})


def a_store(tmp_path: Path, plan: Plan) -> RunFolder:
    (tmp_path / "run-1").mkdir()
    store = RunFolder(tmp_path / "run-1")
    store.write("manifest.json", manifest(plan, load_profile("laptop"), HEALTH, ["thunderctl"]))
    return store


async def drive(node: StubNode, plan: Plan, store: RunFolder, time_scale: float = 1.0) -> dict[str, Any]:
    """Drive the plan; the summary, also if the run ends with an error that is raised on."""
    async with node.client() as client:
        driver = Driver(plan, client, store, time_scale=time_scale)
        try:
            await driver.drive()
        finally:
            store.close()
    return summarise(store)


@pytest.mark.parametrize("start", ["fresh", "steady"])
async def test_agents_take_programs_until_the_queue_has_ended(tmp_path: Path, start: str) -> None:
    plan = traced(programs=10, start=start, seed=5)
    store = a_store(tmp_path, plan)
    async with a_stub_node() as node:
        summary = await drive(node, plan, store)
        assert len(node.released) == 10 and node.shell.scheduler.programs == {}
    assert summary["agents"]["by_status"] == {"finished": 10}
    assert summary["complete"] is True
    work = plan.work()
    assert summary["throughput"]["steps"] == plan.total_steps == count_steps(a for a in iter(work.take, None))
    assert differences(store.folder, summary) == []
    assert {s["agent"] for s in store.lines("steps")} <= {"agent-000", "agent-001", "agent-002"}
    said = store.read("manifest.json")
    assert said["kind"] == "trace" and said["trace"] == {
        "name": "tiny", "digest": TRACE.digest, "file": "tiny.jsonl", "programs": 10, "duration_s": None,
        "start": start, "seed": 5,
    }  # fmt: skip
    # The engine sees the trace's tokens, and only those.
    assert summary["tokens"]["output"] == sum(s["output_tokens"] for s in store.lines("steps"))
    assert summary["trace"]["digest"] == TRACE.digest and "file" not in summary["trace"]


async def test_without_a_number_there_is_a_program_for_each_agent(tmp_path: Path) -> None:
    plan = traced(agents=2)
    async with a_stub_node() as node:
        summary = await drive(node, plan, a_store(tmp_path, plan))
    assert summary["agents"]["by_status"] == {"finished": 2}


async def test_a_run_by_the_clock_is_cut_off_and_counts_what_ended_inside(tmp_path: Path) -> None:
    plan = traced(trace=SLOW, agents=2, duration_s=1.0)
    store = a_store(tmp_path, plan)
    async with a_stub_node() as node:
        summary = await drive(node, plan, store)
        assert sorted(node.released) == ["run-1/p00000", "run-1/p00001"]
    assert summary["agents"]["by_status"] == {"cut off": 2}
    assert summary["agents"]["finished"] == 0 and summary["throughput"]["programs_per_h"] == 0
    assert summary["complete"] is True
    assert summary["window_s"] == pytest.approx(1.0)
    stored = list(store.lines("steps"))
    assert {s["step"] for s in stored} <= {1}, "the second tool of each program takes ten minutes"
    assert summary["throughput"]["steps"] == len(stored)
    assert differences(store.folder, summary) == []


async def test_a_slow_nodes_run_lasts_as_long_as_its_own_clock_says(tmp_path: Path) -> None:
    plan = traced(trace=SLOW, agents=1, duration_s=0.5)
    store = a_store(tmp_path, plan)
    async with a_stub_node() as node:
        began = asyncio.get_running_loop().time()
        summary = await drive(node, plan, store, time_scale=3.0)
        assert asyncio.get_running_loop().time() - began >= 1.5
    assert summary["window_s"] == pytest.approx(0.5)
    assert all(record["at"] <= 1.0 for record in store.lines("samples"))


async def test_a_run_by_the_clock_that_was_interrupted_is_not_complete(tmp_path: Path) -> None:
    plan = traced(trace=SLOW, agents=2, duration_s=60.0)
    store = a_store(tmp_path, plan)
    async with a_stub_node() as node:
        running = asyncio.create_task(drive(node, plan, store))
        while not (store.folder / "steps.jsonl").exists():
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len(node.released) == 2
    summary = summarise(store)
    assert summary["complete"] is False and summary["agents"]["by_status"] == {"cut off": 2}


async def test_too_many_failures_end_the_run_and_say_why(tmp_path: Path) -> None:
    plan = traced(programs=10)
    store = a_store(tmp_path, plan)
    async with a_stub_node() as node:
        node.engine.missing = 1
        with pytest.raises(TooManyErrors, match="3 of 10 agents failed, more than 20%") as caught:
            await drive(node, plan, store)
    assert any("the engine emitted" in line for line in caught.value.details)
    summary = summarise(store)
    assert summary["complete"] is False and summary["agents"]["by_status"]["failed"] == 3


async def test_a_few_failures_are_data(tmp_path: Path) -> None:
    plan = traced(agents=1, programs=3, max_error_share=1.0)
    async with a_stub_node() as node:
        node.engine.missing = 1
        summary = await drive(node, plan, a_store(tmp_path, plan))
    assert summary["agents"]["by_status"] == {"failed": 3}
    assert summary["complete"] is True and summary["agents"]["finished"] == 0


async def test_coding_agents_do_one_task_each_as_before(tmp_path: Path) -> None:
    folder = find_workload("swebench")
    workload = load_workload(folder)
    tasks = choose_tasks(load_tasks(folder, workload), "replay", None)
    limits = workload.limits.model_copy(update={"steps": 2})
    environment = workload.environment.model_copy(update={"warm": 2})
    workload = workload.model_copy(update={"limits": limits, "environment": environment})
    plan = TaskPlan(workload, tasks[:2], agents=3, kind="replay", judge=True, max_error_share=0.2)
    store = a_store(tmp_path, plan)
    async with a_stub_node() as node:
        summary = await drive(node, plan, store)
        assert sorted(node.released) == [f"run-1/agent-00{n}" for n in range(3)]
        assert node.warm == [("run-1", "thunderctl/base:1", 2)] and node.over == ["run-1"]
    assert plan.total_steps == 6 == summary["throughput"]["steps"]
    assert summary["agents"]["by_status"] == {"step limit": 3}
    assert summary["agents"]["not_judged"] == 3 and summary["prepare_s"]["mean"] == 0.5
    assert summary["environment_wait_s"]["max"] == 0.25 * 2, "each of the two commands waited"
    assert summary["complete"] is True and "trace" not in summary
    worked_on = [r["instance_id"] for r in last_words(store.lines("rollouts"))]
    assert worked_on == [t.instance_id for t in (tasks[0], tasks[1], tasks[0])]
    assert store.read("preds.json") == {}
    assert differences(store.folder, summary) == []


def test_the_longest_call_counts_prompt_and_answer_after_the_cut() -> None:
    steps = (TraceStep(10, 5, 50, 0.0), TraceStep(20, 7, 0, 0.0))
    assert longest_call(TraceProgram("a", 100, steps)) == 100 + 60 + 27
    assert longest_call(TraceProgram("a", 100, steps, context_limit=90)) == 90 + 27
