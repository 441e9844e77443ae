"""A roll-out's agents work in groups: begun together, ended together, judged, written once, and redone if not whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runs.stub_node import StubNode, a_stub_node
from tests.runs.test_load_shape import HEALTH, a_run, tasks, traced
from thunderctl.errors import TooManyErrors, UsageError
from thunderctl.report.stats import summarise
from thunderctl.rollouts.asked import look_back_at
from thunderctl.rollouts.check import check
from thunderctl.rollouts.figures import figures
from thunderctl.rollouts.files import GroupFiles
from thunderctl.rollouts.groups import NEVER_BEGAN, Rules
from thunderctl.rollouts.plan import GroupPlan
from thunderctl.rollouts.schema import Group
from thunderctl.rollouts.shelf import Shelf
from thunderctl.runs.driver import Driver
from thunderctl.runs.resume import AT_FIRST, Earlier, make_ready, note_sitting
from thunderctl.runs.store import RunFolder
from thunderctl.traces.load import make_trace
from thunderctl.traces.trace import TraceProgram, TraceStep

PAIRS = make_trace(
    "pairs",
    [
        TraceProgram(
            f"t{task}/{n}", 64 + task, tuple(TraceStep(9 + n, 0, 20, 0.0) for _ in range(n + 1)), group=f"t{task}"
        )
        for task in range(3)
        for n in range(2)
    ],
)


def plan(work: Any, tmp_path: Path | None = None, groups: int | None = 2, **more: Any) -> GroupPlan:
    rules = {name: more.pop(name) for name in ("samples", "keep", "timeout_s", "retries", "ahead") if name in more}
    return GroupPlan(work, Rules(**{"samples": 2, **rules}), groups, out=tmp_path and tmp_path / "out", **more)


async def drive(node: StubNode, planned: GroupPlan, store: RunFolder, earlier: Earlier = AT_FIRST) -> dict[str, Any]:
    """The roll-out's figures."""
    async with node.client() as client:
        try:
            await Driver(planned, client, store, earlier=earlier).drive()
        finally:
            store.close()
    return figures(summarise(store), store.read("manifest.json")["rollout"], store.lines("groups"))


def written(planned: GroupPlan) -> list[Group]:
    assert planned.out is not None
    return list(GroupFiles(planned.out).read())


async def test_every_group_is_written_whole_with_the_tokens_that_the_engine_saw(tmp_path: Path) -> None:
    planned = plan(tasks(judge=True, agents=4), tmp_path)
    store = a_run(tmp_path, planned)
    async with a_stub_node() as node:
        came = await drive(node, planned, store)
        assert sorted(node.released) == [f"run-1/g0000{g}.{s}" for g in range(2) for s in range(2)]
        calls = node.engine.calls
    groups = written(planned)
    assert sorted(group.name for group in groups) == ["g00000", "g00001"]
    assert planned.out is not None and check(planned.out).violations == []
    for group in groups:
        assert [sample.index for sample in group.samples] == [0, 1]
        first, other = (sample.segments[0] for sample in group.samples)
        begin = first.turns[0].start
        assert first.ids[:begin] == other.ids[:begin], "the samples of a group share their first prompt"
        assert {sample.reward for sample in group.samples} == {None}, "nothing was handed in"
        for sample in group.samples:
            (segment,) = sample.segments
            assert len(segment.turns) == sample.steps == 2
            for turn in segment.turns:
                assert segment.ids[: turn.start] in [call["prompt"] for call in calls]
    assert came["groups"] == {"asked": 2, "complete": 2, "timed_out": 0, "mixed": 0}
    assert came["samples"]["by_status"] == {"step limit": 4} and came["samples"]["dropped"] == 0
    assert came["tokens"]["model"] == sum(sum(s.mask) for g in groups for p in g.samples for s in p.segments)
    assert came["tokens"]["with_logprobs"] == came["tokens"]["model"]
    said = GroupFiles(planned.out).manifest()
    assert (said["run"], said["kind"], said["rollout"]["groups"]) == ("run-1", "replay", 2)


async def test_samples_of_a_group_begin_next_to_each_other_and_the_next_group_when_places_are_free(
    tmp_path: Path,
) -> None:
    planned = plan(traced(trace=PAIRS, agents=3), groups=3)
    store = a_run(tmp_path, planned)
    async with a_stub_node() as node:
        node.engine.delay_s = 0.02
        await drive(node, planned, store)
        first_calls = [call for call in node.engine.calls if len(call["prompt"]) in (64, 65, 66)]
    ended = sorted(store.lines("rollouts"), key=lambda record: record["started"])
    assert [record["agent"][:6] for record in ended] == ["g00000"] * 2 + ["g00001"] * 2 + ["g00002"] * 2
    assert ended[2]["started"] < ended[0]["ended"] < ended[3]["started"], "three places: a place becomes free first"
    prompts = [tuple(call["prompt"]) for call in first_calls]
    assert len(prompts) == 6 and len(set(prompts)) == 3, "one first prompt a group"


async def test_what_is_handed_in_is_judged_while_others_work(tmp_path: Path) -> None:
    work = tasks(steps=99, agents=2)
    last_steps = [replace(task, trajectory=(task.trajectory or [])[-1:]) for task in work.tasks]
    planned = plan(replace(work, tasks=last_steps), tmp_path)
    store = a_run(tmp_path, planned)
    async with a_stub_node() as node:
        came = await drive(node, planned, store)
        released = node.released
    assert released.index("run-1/g00000.0.judge") < released.index("run-1/g00001.0"), "not after all of them"
    assert came["samples"]["by_status"] == {"submitted": 4} and came["rewards"] == {
        "judged": 4,
        "mean": 0.0,
        "nothing_to_judge": 0,
    }
    sample = written(planned)[0].samples[0]
    assert sample.submission == "a patch" and sample.reward == 0.0 and set(sample.parts.values()) == {0.0}
    assert {r["resolved"] for r in store.lines("rollouts") if r["resolved"] is not None} == {False}


async def test_once_enough_are_done_the_others_are_cut_off_and_leave_nothing(tmp_path: Path) -> None:
    planned = plan(tasks(agents=3), tmp_path, groups=1, samples=3, keep=2)
    store = a_run(tmp_path, planned)
    async with a_stub_node() as node:
        calls = iter(range(99))
        node.engine.slow = lambda body: 600.0 if next(calls) == 1 else 0.0
        came = await drive(node, planned, store)
        assert sorted(node.released) == sorted(node.announced) and len(node.announced) == 3
        assert node.shell.scheduler.programs == {}
    assert (came["samples"]["kept"], came["samples"]["dropped"]) == (2, 1)
    (group,) = written(planned)
    assert [sample.status for sample in group.samples] == ["step limit"] * 2 and group.dropped == 1
    statuses = [record["status"] for record in store.lines("rollouts")]
    assert sorted(statuses) == ["cut off", "step limit", "step limit"]


async def test_a_group_whose_time_is_up_is_complete_with_what_is_done(tmp_path: Path) -> None:
    planned = plan(tasks(agents=2), tmp_path, groups=2, samples=3, timeout_s=1.0)
    store = a_run(tmp_path, planned)
    async with a_stub_node() as node:
        calls = iter(range(99))
        # Of the first two agents the second one hangs, and then whoever takes the other place.
        node.engine.slow = lambda body: 600.0 if next(calls) in (1, 4) else 0.0
        came = await drive(node, planned, store)
        assert sorted(node.released) == sorted(node.announced)
    first, second = sorted(written(planned), key=lambda group: group.name)
    assert first.timed_out and [sample.status for sample in first.samples].count("step limit") == 1
    assert {sample.status for sample in first.samples} == {"step limit", "cut off"} and len(first.samples) == 3
    assert not second.timed_out and {sample.status for sample in second.samples} == {"step limit"}
    assert came["groups"]["timed_out"] == 1
    assert planned.out is not None and check(planned.out).violations == []


async def test_samples_that_had_no_place_in_time_are_marked(tmp_path: Path) -> None:
    planned = plan(tasks(agents=1), tmp_path, groups=1, samples=3, timeout_s=0.5)
    store = a_run(tmp_path, planned)
    async with a_stub_node() as node:
        node.engine.delay_s = 600.0
        await drive(node, planned, store)
        assert node.announced == ["run-1/g00000.0"]
    (group,) = written(planned)
    assert [sample.error for sample in group.samples] == [None, NEVER_BEGAN, NEVER_BEGAN]
    assert {sample.status for sample in group.samples} == {"cut off"}


async def test_a_failed_sample_is_replaced_or_else_marked(tmp_path: Path) -> None:
    planned = plan(tasks(agents=1, max_error_share=1.0), tmp_path, groups=2, retries=1)
    store = a_run(tmp_path, planned)
    async with a_stub_node() as node:
        node.engine.refused = 1
        came = await drive(node, planned, store)
        assert node.released[:2] == ["run-1/g00000.0", "run-1/g00000.0.again1"]
    first = min(written(planned), key=lambda group: group.name)
    assert [(s.attempt, s.status) for s in first.samples] == [(2, "step limit"), (1, "step limit")]
    assert first.dropped == 1 == came["samples"]["replaced"]


async def test_a_sample_that_failed_for_good_is_marked_with_its_error(tmp_path: Path) -> None:
    planned = plan(tasks(agents=1, max_error_share=1.0), tmp_path, groups=1, retries=1)
    store = a_run(tmp_path, planned)
    async with a_stub_node() as node:
        node.engine.refused = 2
        await drive(node, planned, store)
    (group,) = written(planned)
    failed, done = group.samples
    assert (failed.status, failed.attempt, failed.reward) == ("failed", 2, None)
    assert failed.error is not None and "not today" in failed.error and done.status == "step limit"


async def test_too_many_failures_end_the_roll_out(tmp_path: Path) -> None:
    planned = plan(tasks(agents=2), tmp_path)
    store = a_run(tmp_path, planned)
    async with a_stub_node() as node:
        node.engine.refused = 99
        with pytest.raises(TooManyErrors):
            await drive(node, planned, store)
    assert written(planned) == []


async def test_a_trainer_that_takes_no_groups_stops_new_ones_from_beginning(tmp_path: Path) -> None:
    shelf = Shelf()
    planned = plan(traced(trace=PAIRS, agents=2), groups=9, ahead=1, shelf=shelf)
    store = a_run(tmp_path, planned)
    async with a_stub_node() as node:
        driving = asyncio.create_task(drive(node, planned, store))
        while shelf.waiting < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        waiting, goes_on = shelf.waiting, not driving.done()
        taken = []
        while (group := await shelf.take()) is not None:
            taken.append(group.name)
        await driving
    assert waiting <= 1 + 2, "one may wait when others begin, and with two places there are two others"
    assert goes_on
    assert sorted(taken) == [f"g0000{n}" for n in range(9)]


async def test_environments_of_those_that_come_are_prepared_and_go_when_their_group_is_done(tmp_path: Path) -> None:
    planned = plan(tasks(agents=2, look_ahead=1), tmp_path, groups=1, samples=4, keep=1)
    store = a_run(tmp_path, planned)
    async with a_stub_node() as node:
        node.engine.slow = lambda body: 0.0 if len(node.engine.calls) == 1 else 0.2
        await drive(node, planned, store)
        assert sorted(node.announced) == sorted(set(node.released)) and len(node.announced) == 3
    (group,) = written(planned)
    assert len(group.samples) == 1 and group.dropped == 1, "the one that was only prepared for is no sample"


async def test_staleness_is_the_version_in_force_less_the_one_that_made_the_token(tmp_path: Path) -> None:
    planned = plan(traced(trace=PAIRS, agents=2), tmp_path, groups=2)
    store = a_run(tmp_path, planned)
    async with a_stub_node() as node:
        node.version = 3
        came = await drive(node, planned, store)
    assert came["staleness"] == {"mean": 3.0, "worst": 3}, "the stub's answers say no version, which is version 0"


async def test_a_roll_out_that_is_told_to_end_gives_no_half_group(tmp_path: Path) -> None:
    planned = plan(tasks(agents=2), tmp_path)
    store = a_run(tmp_path, planned)
    async with a_stub_node() as node:
        node.engine.delay_s = 0.05
        async with node.client() as client:
            driver = Driver(planned, client, store)
            driving = asyncio.create_task(driver.drive())
            while driver.progress.steps < 1:
                await asyncio.sleep(0.01)
            driver.drain()
            await driving
        store.close()
    assert written(planned) == [] and store.read("manifest.json")["ended"] == "interrupted"


def contents(files: GroupFiles) -> dict[tuple[str, str], bytes]:
    """Of each whole file, by group and form: a group counts as soon as one of its two is there."""
    return {(e.name, form): path.read_bytes() for e in files.entries() for form, path in e.files.items()}


def again(store: RunFolder, planned: GroupPlan) -> Earlier:
    earlier = look_back_at(store, str(planned.out))
    make_ready(store, earlier)
    note_sitting(store, earlier, HEALTH)
    return earlier


async def broken_off(
    node: StubNode, planned: GroupPlan, store: RunFolder, earlier: Earlier, when: Callable[[], bool]
) -> None:
    """As by a kill."""
    running = asyncio.create_task(drive(node, planned, store, earlier))
    while not running.done() and not when():
        await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_only_groups_that_are_missing_are_done_again(tmp_path: Path) -> None:
    planned = plan(tasks(agents=2), tmp_path, groups=4)
    store = a_run(tmp_path, planned)
    assert planned.out is not None
    files = GroupFiles(planned.out)
    async with a_stub_node() as node:
        node.engine.delay_s = 0.02
        await broken_off(node, planned, store, AT_FIRST, lambda: len(files.done()) >= 1)
        whole = contents(files)
        with (store.folder / "groups.jsonl").open("a") as lines:
            lines.write('{"group": "g000')
        calls = len(node.engine.calls)
        came = await drive(node, planned, store, again(store, planned))
        redone = {call["program_id"] for call in node.engine.calls[calls:] if "program_id" in call}
    assert 0 < len({group for group, _ in whole}) < 4
    now = contents(files)
    assert {entry.name for entry in files.entries()} == {f"g0000{n}" for n in range(4)}
    assert whole.items() <= now.items(), "what was whole stays as it was"
    assert not {name for name in redone if name.split("/")[1].split(".")[0] in {group for group, _ in whole}}
    assert check(planned.out).violations == [] and came["groups"]["complete"] == 4
    assert summarise(store)["throughput"]["steps"] == 4 * 2 * 2, "every step counts once"
    with pytest.raises(UsageError, match="complete"):
        look_back_at(store, str(planned.out))


async def test_a_group_that_was_written_and_not_told_of_is_told_of(tmp_path: Path) -> None:
    planned = plan(traced(trace=PAIRS, agents=2), tmp_path, groups=2)
    store = a_run(tmp_path, planned)
    async with a_stub_node() as node:
        node.engine.delay_s = 0.05
        assert planned.out is not None
        files = GroupFiles(planned.out)
        await broken_off(node, planned, store, AT_FIRST, lambda: bool(files.done()))
        (store.folder / "groups.jsonl").unlink(missing_ok=True)
        await drive(node, planned, store, again(store, planned))
    assert sorted(line["group"] for line in store.lines("groups")) == ["g00000", "g00001"]


async def test_a_folder_that_cannot_be_written_ends_the_roll_out(tmp_path: Path) -> None:
    planned = plan(traced(trace=PAIRS, agents=2), tmp_path, groups=3)
    store = a_run(tmp_path, planned)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "groups-jsonl").write_text("in the way")
    async with a_stub_node() as node:
        with pytest.raises(OSError, match="groups-jsonl"):
            await drive(node, planned, store)


def test_nonsense_is_refused_before_anything_starts() -> None:
    with pytest.raises(UsageError, match="at least|1 to"):
        plan(tasks(), groups=0)
    with pytest.raises(UsageError, match="temperature"):
        plan(tasks(), sampling={"temperature": 0.5})
    with pytest.raises(UsageError, match="no task has 3 samples"):
        plan(replace(traced(trace=PAIRS), trace=PAIRS), samples=3, longest=10)
