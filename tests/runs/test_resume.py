"""A run that broke off goes on in its folder: nothing is done twice, nothing lost, and no other work done there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runs.stub_node import StubNode, a_stub_node
from tests.runs.test_load_shape import a_run, tasks, traced
from thunderctl.errors import UsageError
from thunderctl.report.stats import summarise
from thunderctl.runs.driver import Driver, Plan
from thunderctl.runs.resume import (
    AT_FIRST,
    Earlier,
    look_back,
    make_ready,
    note_sitting,
    only_driver,
    refuse_another_plan,
    refuse_if_nothing_is_left,
)
from thunderctl.runs.store import RunFolder

HEALTH: dict[str, Any] = {"workers": [], "environments": {"backend": "local"}}


async def sit(node: StubNode, plan: Plan, store: RunFolder, earlier: Earlier = AT_FIRST, steps: int = 10**9) -> None:
    """One sitting; broken off, as by a kill, once so many steps were made in it."""
    async with node.client() as client:
        driver = Driver(plan, client, store, earlier=earlier)
        running = asyncio.create_task(driver.drive())
        while not running.done() and driver.progress.steps < steps:
            await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    store.close()


def again(store: RunFolder) -> Earlier:
    earlier = look_back(store)
    make_ready(store, earlier)
    note_sitting(store, earlier, HEALTH)
    return earlier


def torn(store: RunFolder, name: str) -> None:
    with (store.folder / f"{name}.jsonl").open("a") as file:
        file.write('{"agent": "agent-000", "program": "run-1/ag')


async def test_only_what_is_missing_is_done_and_every_step_counts_once(tmp_path: Path) -> None:
    plan = tasks(rollouts=6, steps=3, judge=False)
    store = a_run(tmp_path, plan)
    async with a_stub_node() as node:
        node.engine.delay_s = 0.02
        for stop_after in (5, 4):
            began = (store.folder / "steps.jsonl").exists()
            await sit(node, plan, store, again(store) if began else AT_FIRST, stop_after)
            for name in ("steps", "rollouts", "samples", "decisions"):
                torn(store, name)
        done_before = set(look_back(store).done)
        await sit(node, plan, store, again(store))
    assert 0 < len(done_before) < 6
    rollouts = list(store.lines("rollouts"))
    assert sorted(r["index"] for r in rollouts) == list(range(6))
    assert {r["status"] for r in rollouts} == {"step limit"}
    made = [(s["agent"], s["step"]) for s in store.lines("steps")]
    assert sorted(made) == [(f"agent-00{n}", k) for n in range(6) for k in (1, 2, 3)]
    assert {s["program"] for s in store.lines("steps")} == {r["program"] for r in rollouts}
    said = store.read("manifest.json")
    assert said["ended"] == "done" and [s["ended"] for s in said["sittings"]] == ["interrupted"] * 2
    assert summarise(store)["throughput"]["steps"] == 18
    assert list(store.lines("superseded")), "what was redone is still there to be looked at"


async def test_the_clock_goes_on_where_it_stood(tmp_path: Path) -> None:
    plan = tasks(rollouts=4, steps=2, judge=False)
    store = a_run(tmp_path, plan)
    async with a_stub_node() as node:
        node.engine.delay_s = 0.02
        await sit(node, plan, store, steps=4)
        earlier = again(store)
        await asyncio.sleep(0.3)
        await sit(node, plan, store, earlier)
    fresh = [r for r in store.lines("rollouts") if r["program"].endswith(".2")]
    assert fresh and all(earlier.clock_s <= r["started"] < earlier.clock_s + 0.3 for r in fresh)


async def test_what_was_done_and_not_judged_is_judged_and_not_done_again(tmp_path: Path) -> None:
    plan = tasks(rollouts=2, steps=1)
    store = a_run(tmp_path, plan)
    for index in range(2):
        store.append(
            "rollouts",
            {
                "agent": f"agent-00{index}", "program": f"run-1/agent-00{index}", "instance_id": "x", "kind": "replay",
                "index": index, "status": "submitted", "submission": "", "ended": 1.0,
                "resolved": [None, True][index],
            },
        )  # fmt: skip
    store.close()
    said = store.read("manifest.json")
    refuse_if_nothing_is_left(said, look_back(store), "run-1")
    async with a_stub_node() as node:
        await sit(node, plan, store, again(store))
        assert node.released == ["run-1/agent-000.judge"] and node.engine.calls == []
    last = {r["index"]: r for r in store.lines("rollouts")}
    assert (last[0]["resolved"], last[1]["resolved"]) == (False, True)
    with pytest.raises(UsageError, match="complete"):
        refuse_if_nothing_is_left(said, look_back(store), "run-1")


async def test_a_traces_programs_go_on_with_the_same_queue(tmp_path: Path) -> None:
    plan = traced(programs=6, seed=3)
    store = a_run(tmp_path, plan)
    async with a_stub_node() as node:
        node.engine.delay_s = 0.02
        await sit(node, plan, store, steps=8)
        await sit(node, plan, store, again(store))
    rollouts = sorted(store.lines("rollouts"), key=lambda r: r["index"])
    work = plan.work()
    assert [r["program"].split("/")[1].split(".")[0] for r in rollouts] == [f"p0000{n}" for n in range(6)]
    assert [r["instance_id"] for r in rollouts] == [a.program.id for a in iter(work.take, None)]
    assert summarise(store)["agents"]["by_status"] == {"finished": 6}


def test_a_run_by_the_clock_is_not_resumed(tmp_path: Path) -> None:
    store = a_run(tmp_path, traced(duration_s=9.0))
    with pytest.raises(UsageError, match="by the clock"):
        refuse_if_nothing_is_left(store.read("manifest.json"), look_back(store), "run-1")


def test_another_plan_is_refused_by_the_first_thing_that_differs(tmp_path: Path) -> None:
    plan = tasks(rollouts=4)
    before = a_run(tmp_path, plan).read("manifest.json")
    refuse_another_plan(before, plan.about(), "run-1")
    changed = plan.workload.model_copy(update={"description": "Another one."})
    for other, key in (
        (replace(plan, tasks=plan.tasks[:1]), "tasks"),
        (replace(plan, workload=changed), "work digest"),
    ):
        with pytest.raises(UsageError, match=f"its {key} would not be the same"):
            refuse_another_plan(before, other.about(), "run-1")


def test_a_run_is_driven_by_one_process_at_a_time(tmp_path: Path) -> None:
    store = a_run(tmp_path, tasks())
    with only_driver(store), pytest.raises(UsageError, match="another process"), only_driver(store):
        pass
    with only_driver(store):
        pass
