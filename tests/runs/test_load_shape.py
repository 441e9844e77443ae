"""A run's load comes as its shape says, whoever the agents are; what is stored tells how it ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runs.stub_node import StubNode, a_stub_node
from thunderctl.profile_files import load_profile
from thunderctl.report.stats import last_words, summarise
from thunderctl.runs.begin import manifest
from thunderctl.runs.driver import Driver, Plan
from thunderctl.runs.shape import Shape, Warmup
from thunderctl.runs.store import RunFolder
from thunderctl.runs.tasks import TaskPlan, choose_tasks
from thunderctl.runs.trace import TracePlan
from thunderctl.traces.load import make_trace
from thunderctl.traces.trace import TraceProgram, TraceStep
from thunderctl.workload.load import find_workload, load_tasks, load_workload

SLOW = make_trace("slow", [TraceProgram("s", 40, (TraceStep(5, 0, 5, 0.01), TraceStep(5, 0, 5, 600.0)), "x")])
SHORT = make_trace("short", [TraceProgram("s", 40, (TraceStep(5, 0, 5, 0.01),) * 3, "x")])
HEALTH: dict[str, Any] = {"workers": [], "environments": {"backend": "local"}}


def tasks(steps: int = 2, **more: Any) -> TaskPlan:
    folder = find_workload("swebench")
    workload = load_workload(folder)
    limits = workload.limits.model_copy(update={"steps": steps})
    chosen = choose_tasks(load_tasks(folder, workload), "replay", None)[:2]
    plan = TaskPlan(
        workload.model_copy(update={"limits": limits}), chosen, agents=2, kind="replay", judge=True, max_error_share=0.2
    )
    return replace(plan, **more)


def traced(**more: Any) -> TracePlan:
    return TracePlan(**{"trace": SHORT, "source": "short.jsonl", "agents": 2, "max_error_share": 0.2, **more})


def a_run(tmp_path: Path, plan: Plan) -> RunFolder:
    (tmp_path / "run-1").mkdir()
    store = RunFolder(tmp_path / "run-1")
    store.write("manifest.json", manifest(plan, load_profile("laptop"), HEALTH, ["thunderctl"]))
    return store


async def drive(node: StubNode, plan: Plan, store: RunFolder) -> dict[str, Any]:
    async with node.client() as client:
        try:
            await Driver(plan, client, store).drive()
        finally:
            store.close()
    return summarise(store)


async def test_agents_take_the_next_task_until_all_are_done(tmp_path: Path) -> None:
    plan = tasks(rollouts=7)
    store = a_run(tmp_path, plan)
    async with a_stub_node() as node:
        summary = await drive(node, plan, store)
        assert sorted(node.released) == [f"run-1/agent-00{n}" for n in range(7)]
    assert summary["agents"]["by_status"] == {"step limit": 7} and summary["throughput"]["steps"] == 14
    done = sorted(last_words(store.lines("rollouts")), key=lambda r: r["index"])
    assert [r["index"] for r in done] == list(range(7)) and plan.total_steps == 14
    assert [r["instance_id"] for r in done] == [plan.tasks[n % 2].instance_id for n in range(7)]
    said = store.read("manifest.json")
    assert (said["due"], said["agents"], said["ended"], said["seed"]) == (7, 2, "done", 0)
    assert said["shape"]["loop"] == "closed" and "window" not in said


async def test_the_next_agents_environments_are_prepared_before_there_is_a_place(tmp_path: Path) -> None:
    plan = tasks(rollouts=5, look_ahead=1)
    store = a_run(tmp_path, plan)
    async with a_stub_node() as node:
        await drive(node, plan, store)
        early = [lease for lease, command in node.commands if command == "true"]
        assert early == ["run-1:agent-002", "run-1:agent-003", "run-1:agent-004"], "the first two began at once"
        assert len(node.announced) == len(set(node.announced)) == 5, "an agent goes on with what was announced for it"


async def test_what_was_prepared_for_agents_that_never_start_is_given_back(tmp_path: Path) -> None:
    plan = tasks(rollouts=9, look_ahead=3, steps=1, shape=Shape(max_duration_s=0.4))
    store = a_run(tmp_path, plan)
    async with a_stub_node() as node:
        node.engine.delay_s = 60.0
        await drive(node, plan, store)
        assert set(node.announced) == set(node.released)
        assert len(node.announced) == 2 + 3
    assert store.read("manifest.json")["ended"] == "max duration"


async def test_a_run_of_tasks_by_the_clock_goes_on_until_its_time_is_up(tmp_path: Path) -> None:
    plan = tasks(duration_s=1.0, shape=Shape(warmup=Warmup(share=0.25)))
    store = a_run(tmp_path, plan)
    async with a_stub_node() as node:
        node.engine.delay_s = 0.05
        summary = await drive(node, plan, store)
    assert summary["window_s"] == pytest.approx(0.75) and plan.total_steps is None
    assert set(summary["agents"]["by_status"]) == {"step limit", "cut off"}
    assert summary["agents"]["by_status"]["cut off"] <= 2 < summary["agents"]["by_status"]["step limit"]
    assert store.read("manifest.json")["ended"] == "duration"


async def test_a_warmup_is_left_out_of_the_window_of_a_run_that_ends_by_itself(tmp_path: Path) -> None:
    plan = traced(programs=8, shape=Shape(warmup=Warmup(share=0.5)))
    store = a_run(tmp_path, plan)
    async with a_stub_node() as node:
        node.engine.delay_s = 0.02
        summary = await drive(node, plan, store)
    steps = list(store.lines("steps"))
    first, last = min(s["at"] for s in steps), max(s["ended"] for s in steps)
    assert summary["window_s"] == pytest.approx((last - first) / 2)
    assert 0 < summary["throughput"]["steps"] < len(steps) == 24


async def test_places_open_one_after_the_other_over_a_ramp(tmp_path: Path) -> None:
    plan = traced(agents=4, shape=Shape(ramp_s=0.4))
    store = a_run(tmp_path, plan)
    async with a_stub_node() as node:
        node.engine.delay_s = 0.5  # so that nobody is done before everybody has begun
        await drive(node, plan, store)
    began = {r["agent"]: r["started"] for r in store.lines("rollouts")}
    assert all(began[f"agent-00{place}"] >= 0.1 * place - 0.01 for place in range(4)), began


async def test_in_an_open_loop_agents_arrive_whether_or_not_others_are_done_up_to_the_cap(tmp_path: Path) -> None:
    shape = Shape(arrivals_per_min=3000, seed=1)
    plan = traced(agents=3, programs=12, shape=shape)
    store = a_run(tmp_path, plan)
    async with a_stub_node() as node:
        node.engine.delay_s = 0.03
        summary = await drive(node, plan, store)
    assert summary["agents"]["by_status"] == {"finished": 12}
    done = sorted(store.lines("rollouts"), key=lambda r: r["index"])
    arrivals = shape.arrivals()
    assert [r["arrived"] for r in done] == [next(arrivals) for _ in done]
    assert all(r["started"] >= r["arrived"] for r in done)
    at_work = [sum(o["started"] <= r["started"] < o["ended"] for o in done) for r in done]
    assert max(at_work) == 3, "the cap holds, and is reached: they come faster than they leave"
    assert {r["agent"] for r in done} == {"agent-000", "agent-001", "agent-002"}
    assert store.read("manifest.json")["shape"]["loop"] == "open"


async def test_a_drained_run_begins_nothing_more_and_stores_what_was_done(tmp_path: Path) -> None:
    plan = tasks(rollouts=6, steps=40, look_ahead=2)
    store = a_run(tmp_path, plan)
    async with a_stub_node() as node, node.client() as client:
        node.engine.delay_s = 0.05
        driver = Driver(plan, client, store)
        running = asyncio.create_task(driver.drive())
        while driver.progress.steps < 3:
            await asyncio.sleep(0.01)
        told = time.monotonic() - driver.progress.began
        driver.drain()
        await running
        store.close()
        assert all(step["at"] <= told for step in store.lines("steps")), "no step began after it"
        assert set(node.announced) == set(node.released)
        assert not any(program.endswith(".judge") for program in node.released)
    assert driver.interrupted and store.read("manifest.json")["ended"] == "interrupted"
    rollouts = list(store.lines("rollouts"))
    assert [r["status"] for r in rollouts] == ["cut off"] * 2
    assert sum(r["steps"] for r in rollouts) == len(list(store.lines("steps")))


async def test_a_tool_that_does_not_end_is_cut_off_when_the_drain_has_lasted_long_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thunderctl.runs.driver.DRAIN_S", 0.2)
    plan = traced(trace=SLOW)
    store = a_run(tmp_path, plan)
    async with a_stub_node() as node, node.client() as client:
        driver = Driver(plan, client, store)
        running = asyncio.create_task(driver.drive())
        while driver.progress.steps < 2:
            await asyncio.sleep(0.01)
        driver.drain()
        await running
        store.close()
        assert len(node.released) == 2
    assert [r["status"] for r in store.lines("rollouts")] == ["cut off"] * 2
    assert store.read("manifest.json")["ended"] == "interrupted"


async def test_the_driver_tells_its_own_lag_and_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thunderctl.runs.driver.COLLECT_S", 0.2)
    plan = traced(programs=4)
    store = a_run(tmp_path, plan)
    async with a_stub_node() as node:
        node.engine.delay_s = 0.15
        await drive(node, plan, store)
    told = list(store.lines("driver"))
    said = store.read("manifest.json")["driver"]
    assert told and all(record["lag_max_s"] >= record["lag_mean_s"] >= 0 for record in told)
    assert any(record["daemon_answer_s"] for record in told) and max(record["agents"] for record in told) == 2
    # Each step of the trace is a call and a tool.
    assert said["calls"] == 2 * 12 and sum(record["calls"] for record in told) <= said["calls"]
    assert said["cpu_s"] > 0 and said["cpu_ms_per_call"] == pytest.approx(1000 * said["cpu_s"] / 24, rel=0.01)
    assert said["lag_p99_s"] <= said["lag_max_s"] and said["wall_s"] > 0
