"""A roll-out's plan says what there is to do, the same each time that it is made from the same words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.runs.test_load_shape import tasks
from thunderctl.cli.asked import Asked
from thunderctl.errors import UsageError
from thunderctl.profile_files import load_profile
from thunderctl.rollouts.asked import RolloutAsked
from thunderctl.rollouts.groups import Rules
from thunderctl.rollouts.plan import GroupPlan
from thunderctl.rollouts.sources import TraceSource
from thunderctl.runs.begin import identity

LAPTOP = load_profile("laptop")


def work(workload: str = "swebench", **more: Any) -> Asked:
    said: dict[str, Any] = {
        "workload": workload, "agents": 12, "live": False, "dataset": None, "only": None, "judge": True,
        "max_steps": None, "trace": None, "programs": None, "duration_s": None, "start": None, "seed": None,
    }  # fmt: skip
    return Asked(**{**said, **more})


def test_without_a_number_there_is_a_group_for_each_task_and_of_a_trace_as_agents_make() -> None:
    planned = RolloutAsked(work()).plan(LAPTOP)
    assert isinstance(planned.work.kind, str) and planned.total == len(planned.work.tasks)  # type: ignore[union-attr]
    assert planned.due == 8 * planned.total and planned.total_steps
    traced = RolloutAsked(work("trace", trace="coding")).plan(LAPTOP)
    assert (traced.total, traced.due, traced.agents) == (2, 16, 12)


def test_no_more_places_than_samples() -> None:
    assert RolloutAsked(work(), tasks=1, samples_per_task=4).plan(LAPTOP).agents == 4


@pytest.mark.parametrize(
    "asked",
    [
        RolloutAsked(work(), tasks=3, samples_per_task=4, keep="first:3", group_timeout_s=60.0, retries=2, out="here"),
        RolloutAsked(work("trace", trace="coding", seed=7), samples_per_task=2),
        RolloutAsked(work(live=True), sampling={"top_p": 0.9}),
    ],
    ids=["tasks", "trace", "live"],
)
def test_what_the_manifest_keeps_makes_the_same_plan_again(asked: RolloutAsked) -> None:
    said = json.loads(json.dumps(asked.more()))
    again = RolloutAsked.from_manifest(said)
    first, second = (json.dumps(identity(each.plan(LAPTOP)), sort_keys=True) for each in (asked, again))
    assert first == second and again.keep == asked.keep


def test_live_samples_are_drawn_by_chance_where_nothing_else_is_said() -> None:
    assert RolloutAsked(work(live=True)).plan(LAPTOP).sampling == {"temperature": 1.0}
    cold = RolloutAsked(work(live=True), sampling={"temperature": 0.2}).plan(LAPTOP)
    assert cold.sampling == {"temperature": 0.2}
    assert RolloutAsked(work()).plan(LAPTOP).sampling == {}


def test_samples_of_a_traces_task_have_their_whole_first_prompt_in_common_and_end_at_the_models_context() -> None:
    planned = RolloutAsked(work("trace", trace="coding"), samples_per_task=8, tasks=20).plan(LAPTOP)
    source = planned.source
    assert isinstance(source, TraceSource)
    longest = LAPTOP.profile.model.max_model_len
    assert longest is not None
    counts = []
    for number in range(20):
        _, programs = source._group(number)
        assert len({program.first_prompt for program in programs}) == 1
        assert all(program.final_context - program.steps[-1].observation <= longest for program in programs)
        counts.append(len({len(program.steps) for program in programs}))
    assert max(counts) > 1, "some take more steps than others"
    assert len({source.task_of(number) for number in range(20)}) == 20


def test_with_more_groups_than_tasks_they_begin_anew() -> None:
    planned = GroupPlan(tasks(), Rules(samples=2), groups=5)
    first, second = (task.instance_id for task in tasks().tasks)
    assert [planned.source.task_of(number) for number in range(5)] == [first, second, first, second, first]
    assert planned.total_steps == 5 * 2 * 2
    assert GroupPlan(tasks(), Rules(samples=2, keep=1), groups=5).total_steps is None, "some will be cut off"


def test_nonsense_is_refused() -> None:
    for nonsense, said in (
        ({"tasks": 0}, "at least one"),
        ({"samples_per_task": 0}, "samples"),
        ({"keep": "9"}, "keep"),
    ):
        with pytest.raises(UsageError, match=said):
            replace(RolloutAsked(work()), **nonsense).plan(LAPTOP)  # type: ignore[arg-type]
