"""A roll-out's promises are looked at again from its files; what does not hold is named with its place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings

from tests.bundled import bundled_task
from tests.rollouts.made_groups import groups
from tests.rollouts.seeded_groups import seeded_group
from thunderctl.errors import UsageError
from thunderctl.profile import ToolEnvironmentSpec
from thunderctl.rollouts.check import Violation, check, recompute_rewards, wrong_in
from thunderctl.rollouts.files import GroupFiles, to_table
from thunderctl.rollouts.schema import Group, Sample, Segment
from thunderctl.runs.rehearsal import a_rehearsal
from thunderctl.runs.validate import NOTHING_DONE
from thunderctl.workload.load import find_workload, load_tasks, load_workload


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(groups())
def test_a_group_that_keeps_every_promise_passes(group: Group) -> None:
    assert list(wrong_in(group)) == []


def stored(folder: Path, *changed: Group) -> Path:
    files = GroupFiles(folder)
    files.write_manifest({"workload": "swebench"})
    for group in changed or (seeded_group("g0", 0), seeded_group("g1", 1)):
        files.write(group)
    return folder


def test_what_was_looked_at_is_counted(tmp_path: Path) -> None:
    found = check(stored(tmp_path))
    assert found.ok and found.violations == []
    assert (found.groups, found.samples, found.segments, found.calls, found.proved) == (2, 8, 8, 40, 40)
    assert (found.tokens, found.model_tokens, found.versions) == (8 * 400, 8 * 200, {0: 8 * 200})
    assert json.loads(json.dumps(found.as_dict()))["ok"] is True


# ---------------------------------------------------------------------- one promise broken


def turn(number: int, **changes: object) -> Callable[[Segment], None]:
    def apply(segment: Segment) -> None:
        segment.turns[number] = replace(segment.turns[number], **changes)  # type: ignore[arg-type]

    return apply


def token(field: str, place: int, value: float) -> Callable[[Segment], None]:
    def apply(segment: Segment) -> None:
        getattr(segment, field)[place] = value

    return apply


IN_A_SEGMENT: list[tuple[Callable[[Segment], None], str]] = [
    (lambda s: s.mask.append(0), "unequal lengths: 400 ids, 401 mask, 400 versions, 400 logprobs"),
    (lambda s: s.logprobs.pop(), "unequal lengths: 400 ids, 400 mask, 400 versions, 399 logprobs"),  # type: ignore
    (token("mask", 45, 0), "step 1: token 45: mask 0, and it is in an answer"),
    (token("mask", 85, 1), "step 2: token 85: mask 1, and it is outside an answer"),
    (token("mask", 85, 2), "step 2: token 85: mask 2"),
    (token("versions", 45, -1), "step 1: token 45: version -1 where mask is 1"),
    (token("versions", 85, 0), "step 2: token 85: version 0 where mask is 0"),
    (token("versions", 45, 3), "step 1: token 46 is of version 0, and version 3 was in force before it"),
    (token("ids", 3, -1), "step 1: token 3: id -1"),
    (token("ids", 3, 2**40), "step 1: token 3: id 1099511627776"),
    (token("ids", 3, 7), "step 1: its prompt was not the 40 tokens before it"),
    (token("ids", 125, 9000), "step 3: its prompt was not the 200 tokens before it"),
    (token("logprobs", 45, 0.25), "step 1: token 45: log-probability 0.25 where mask is 1"),
    (token("logprobs", 45, -math.inf), "step 1: token 45: log-probability -inf where mask is 1"),
    (token("logprobs", 45, math.nan), "step 1: token 45: log-probability nan where mask is 1"),
    (token("logprobs", 85, -0.25), "step 2: token 85: log-probability -0.25 where mask is 0"),
    (lambda s: s.turns.clear(), "it has no model call"),
    (turn(0, start=0), "step 1: its answer is tokens 0 to 80 of 400, and others end at 0"),
    (turn(1, start=70), "step 2: its answer is tokens 70 to 160 of 400, and others end at 80"),
    (turn(4, end=401), "step 5: its answer is tokens 360 to 401 of 400, and others end at 320"),
    (turn(1, step=1), "step 1: it comes after step 1"),
    (turn(4, step=9), "step 9: the sample has 5 steps"),
    (turn(1, cached_tokens=121), "step 2: 121 cached of a prompt of 120 tokens"),
    (turn(1, finish_reason=""), "step 2: no finish reason"),
    (turn(1, prompt_digest="0" * 16), "step 2: its prompt was not the 120 tokens before it"),
]


@pytest.mark.parametrize(("change", "said"), IN_A_SEGMENT, ids=[said for _, said in IN_A_SEGMENT])
def test_what_is_wrong_in_a_segment_is_named_with_its_sample_segment_and_step(
    change: Callable[[Segment], None], said: str
) -> None:
    group = seeded_group("g", 0)
    change(group.samples[2].segments[0])
    found = [str(violation) for violation in wrong_in(group)]
    place = "group g, sample 2, segment 0" + (", " if said.startswith("step") else ": ")
    assert any(each.startswith(place + said) for each in found), found


def on(field: str, value: object) -> Callable[[Group], None]:
    return lambda group: setattr(group.samples[1], field, value)


IN_A_SAMPLE: list[tuple[Callable[[Group], None], str]] = [
    (on("group", "h"), "sample 1: it says that it is of group 'h' and task 'task of g'"),
    (on("task", "u"), "sample 1: it says that it is of group 'g' and task 'u'"),
    (on("attempt", 0), "sample 1: index 1, attempt 0"),
    (on("status", "running"), "sample 1: status 'running' is none of submitted"),
    (on("status", "failed"), "sample 1: it failed and does not say why"),
    (on("ended", -1.0), "sample 1: it ended at -1.0, before it started at 0.0"),
    (on("reward", math.nan), "sample 1: reward is nan"),
    (on("parts", {"tests": math.inf}), "sample 1: tests is inf"),
    (on("breaks", ["rewritten"]), "sample 1: 1 breaks between 1 segments"),
    (on("index", 0), "its samples are not in order, each once"),
    (lambda group: group.samples.reverse(), "its samples are not in order, each once"),
    (lambda group: setattr(group, "dropped", -1), "-1 samples were dropped"),
]


@pytest.mark.parametrize(("change", "said"), IN_A_SAMPLE, ids=[said for _, said in IN_A_SAMPLE])
def test_what_is_wrong_with_a_sample_or_a_group_is_named(change: Callable[[Group], None], said: str) -> None:
    group = seeded_group("g", 0)
    change(group)
    found = [str(violation) for violation in wrong_in(group)]
    assert any(said in each and each.startswith("group g") for each in found), found


def two_segments(reason: str = "compacted") -> Group:
    """A sample whose second segment goes on with steps and versions."""
    group = seeded_group("g", 0, samples_of=1)
    [sample] = group.samples
    [later] = seeded_group("g", 9, samples_of=1).samples[0].segments
    later.turns = [replace(turn, step=turn.step + 5) for turn in later.turns]
    later.versions = [2 if mask else -1 for mask in later.mask]
    sample.segments.append(later)
    sample.breaks, sample.steps = [reason], 10
    return group


def test_segments_of_a_sample_go_on_in_steps_and_versions() -> None:
    assert list(wrong_in(two_segments())) == []
    assert "break 'tired' is none of rewritten" in str(next(wrong_in(two_segments("tired"))))
    turned = two_segments()
    turned.samples[0].segments.reverse()
    said = [str(each) for each in wrong_in(turned)]
    assert "group g, sample 0, segment 1, step 1: it comes after step 10" in said
    assert any("segment 1, step 1: token 40 is of version 0, and version 2 was in force before it" in s for s in said)


def test_a_call_that_a_change_of_weights_broke_off_may_go_on_in_the_same_step() -> None:
    group = seeded_group("g", 0, samples_of=1)
    [segment] = group.samples[0].segments
    whole = segment.turns[0]
    half = whole.start + 10
    first = replace(whole, end=half, finish_reason="abort")
    segment.turns[:1] = [first, replace(whole, start=half, prompt_digest="")]
    segment.versions[half : whole.end] = [1] * (whole.end - half)
    later = slice(whole.end, None)
    segment.versions[later] = [1 if mask else -1 for mask in segment.mask[later]]
    assert list(wrong_in(group)) == []
    segment.turns[0] = replace(first, finish_reason="stop")
    assert [each.what for each in wrong_in(group)] == ["it comes after step 1"]


# ---------------------------------------------------------------------- files


def said_of(folder: Path) -> list[str]:
    return [str(violation) for violation in check(folder).violations]


def test_violations_name_their_file(tmp_path: Path) -> None:
    group = seeded_group("g1", 1)
    group.samples[0].reward = math.inf
    assert said_of(stored(tmp_path, seeded_group("g0", 0), group)) == [
        "groups-jsonl/00001-g1.jsonl: group g1, sample 0: reward is inf"
    ]


def test_torn_files_differing_forms_wrong_names_and_repeats_are_told(tmp_path: Path) -> None:
    stored(tmp_path, *(seeded_group(f"g{i}", i) for i in range(5)))
    lines, parquet = tmp_path / "groups-jsonl", tmp_path / "groups"
    torn = lines / "00000-g0.jsonl"
    torn.write_bytes(torn.read_bytes()[:-1])
    other = seeded_group("g1", 1)
    other.samples[0].reward = 0.5
    pyarrow.parquet.write_table(to_table(other), parquet / "00001-g1.parquet")
    for folder, form in ((lines, "jsonl"), (parquet, "parquet")):
        (folder / f"00002-g2.{form}").rename(folder / f"00002-x.{form}")
        (folder / f"00007-g3.{form}").write_bytes((folder / f"00003-g3.{form}").read_bytes())
    (lines / "00004-g4.jsonl").write_text("{}\n")
    assert sorted(said_of(tmp_path)) == [
        "group g1: its two forms say different things",
        "group g3: it is stored twice, as number 3 and 7",
        "groups-jsonl/00000-g0.jsonl: it is torn: its end is missing",
        "groups-jsonl/00002-x.jsonl: it holds group 'g2'",
        "groups-jsonl/00004-g4.jsonl: it does not say which layout it has (schema)",
        "groups/00002-x.parquet: it holds group 'g2'",
    ]


def test_a_group_that_is_left_in_one_form_is_looked_at_in_that(tmp_path: Path) -> None:
    group = seeded_group("g", 1)
    group.samples[3].attempt = 0
    stored(tmp_path, group)
    (tmp_path / "groups-jsonl" / "00000-g.jsonl").unlink()
    assert said_of(tmp_path) == ["groups/00000-g.parquet: group g, sample 3: index 3, attempt 0"]


def test_a_folder_that_is_no_roll_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no roll-out"):
        check(tmp_path)


def test_a_violation_reads_like_a_place_and_what_is_wrong_there() -> None:
    assert str(Violation("x", "f", "g", 0, 1, 2)) == "f: group g, sample 0, segment 1, step 2: x"
    assert str(Violation("x")) == "x"


# ---------------------------------------------------------------------- rewards


async def test_rewards_are_judged_again_from_what_was_handed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "home"))
    folder = find_workload("swebench")
    workload = load_workload(folder)
    tasks = load_tasks(folder, workload)
    task = bundled_task(tasks[0].instance_id)
    assert task.gold is not None
    right, names = task.gold.read_text(), [*task.fail_to_pass, *task.pass_to_pass]

    def handed_in(index: int, submission: str, reward: float | None, passed: bool, **other: str) -> Sample:
        parts = {name: float(passed or name in task.pass_to_pass) for name in names}
        sample = Sample(task.instance_id, "g", index, 1, f"p{index}", "live", "submitted", reward, parts)
        sample.submission = submission
        for key, value in other.items():
            setattr(sample, key, value)
        return sample

    group = Group("g", task.instance_id, [
        handed_in(0, right, 1.0, passed=True),
        handed_in(1, NOTHING_DONE, 0.0, passed=False),
        handed_in(2, NOTHING_DONE, 1.0, passed=True),  # a reward that nobody earned
        handed_in(3, right, 1.0, passed=True, task="nobody__knows-1"),
        handed_in(4, "", 0.0, passed=False, status="step limit"),
        handed_in(5, right, None, passed=True),
    ])  # fmt: skip
    async with a_rehearsal(ToolEnvironmentSpec(backend="local"), lambda line: None) as client:
        judged = await recompute_rewards([group], client, client.name, workload, tasks)
    assert [(each.sample, each.stored, each.again, each.agrees) for each in judged] == [
        (0, 1.0, 1.0, True), (1, 0.0, 0.0, True), (2, 1.0, 0.0, False), (3, 1.0, None, False),
    ]  # fmt: skip
    assert set(judged[2].parts_differ) == set(task.fail_to_pass)
    assert judged[3].problem == "the workload swebench has no task 'nobody__knows-1'"
    assert list((tmp_path / "home" / "nodes").iterdir()) == []
