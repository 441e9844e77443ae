"""Trainers get every token and every mask bit, in the shapes that they take; what they cannot take is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.rollouts.made_groups import many_groups
from tests.rollouts.seeded_groups import seeded_group
from thunderctl.errors import UsageError
from thunderctl.rollouts.convert import CONVERTERS, rows_of, to_skyrl, to_slime, to_trl, to_verl
from thunderctl.rollouts.schema import NOT_THE_MODEL, Group, Sample, Segment, Turn

unhurried = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def a_segment(prompt: int, *answers: int, tools: int = 2, after: int = 0, version: int = 0) -> Segment:
    """Ids that count upward; ``tools`` tokens between answers, ``after`` the last one."""
    segment = Segment(logprobs=[])
    assert segment.logprobs is not None

    def add(count: int, mask: int) -> None:
        assert segment.logprobs is not None
        segment.ids += range(len(segment.ids) + 100, len(segment.ids) + 100 + count)
        segment.mask += [mask] * count
        segment.versions += [version if mask else NOT_THE_MODEL] * count
        segment.logprobs += [-0.5 * mask] * count

    add(prompt, 0)
    for number, answer in enumerate(answers):
        start = len(segment.ids)
        add(answer, 1)
        segment.turns.append(Turn(number + 1, start, start + answer, 0, "stop"))
        add(tools if number + 1 < len(answers) else after, 0)
    return segment


def a_sample(index: int, reward: float | None, *segments: Segment, status: str = "submitted") -> Sample:
    breaks = ["compacted"] * (len(segments) - 1)
    return Sample("t", "g", index, 1, f"p{index}", "live", status, reward, {}, list(segments), breaks)


def a_group(*samples: Sample, name: str = "g") -> Group:
    return Group(name, "t", [replace(sample, group=name) for sample in samples])


ONE = a_group(a_sample(0, 1.0, a_segment(3, 2, 2, after=1)), a_sample(1, 0.0, a_segment(3, 4)))
"""Two samples: pppMMttMMt and pppMMMM."""


# ---------------------------------------------------------------------- nothing is lost


def trainable(groups: list[Group]) -> list[tuple[str, int, Segment]]:
    """What has to arrive: segments with a token of the model, of samples that tell something about it."""
    return [
        (group.name, sample.index, segment)
        for group in groups
        for sample in group.samples
        if sample.status != "failed" and (sample.reward is not None or sample.status != "submitted")
        for segment in sample.segments
        if 1 in segment.mask
    ]


def any_reward(groups: list[Group]) -> bool:
    """Whether there is something to learn from: a reward, or nobody handed anything in, which is worth 0."""
    every = [sample for group in groups for sample in group.samples]
    to_judge = any(sample.status in ("submitted", "finished") and not sample.error for sample in every)
    return not to_judge or any(sample.reward is not None for sample in every)


def arrived(trainer: str, groups: list[Group]) -> list[tuple[list[int], list[int], list[float] | None]]:
    """Ids, mask and log-probabilities of each row, put together again from a trainer's shape."""
    if trainer == "slime":
        rows = [row for group in to_slime(groups) for row in group]
        prompts = [len(row["tokens"]) - row["response_length"] for row in rows]
        found = [(row["tokens"], [0] * n + row["loss_mask"]) for row, n in zip(rows, prompts, strict=True)]
        given = [row["rollout_log_probs"] for row in rows]
    elif trainer == "verl":
        made = to_verl(groups, pad_id=-7)
        batch = made["batch"]
        wide = len(batch["responses"][0]) if batch["responses"] else 0
        found, given, prompts = [], [], []
        for n, (ids, there) in enumerate(zip(batch["input_ids"], batch["attention_mask"], strict=True)):
            mask = [0] * (len(ids) - wide) + batch["response_mask"][n]
            logprobs = [0.0] * (len(ids) - wide) + batch.get("rollout_log_probs", {n: [0.0] * wide})[n]
            keep = [place for place, here in enumerate(there) if here]
            assert all(ids[place] == -7 and mask[place] == 0 for place, here in enumerate(there) if not here)
            found.append(([ids[place] for place in keep], [mask[place] for place in keep]))
            given.append([logprobs[place] for place in keep] if "rollout_log_probs" in batch else None)
            prompts.append(0)
    else:
        made = to_skyrl(groups) if trainer == "skyrl" else to_trl(groups, logprobs=False)
        keys = ("prompt_token_ids", "response_ids", "loss_masks", "rollout_logprobs")
        if trainer == "trl":
            keys = ("prompt_ids", "completion_ids", "env_mask", "logprobs")
        before, after, masks, lps = (made[key] for key in keys)
        prompts = [len(ids) for ids in before]
        found = [(a + b, [0] * len(a) + m) for a, b, m in zip(before, after, masks, strict=True)]
        given = lps if lps is not None else [None] * len(found)
    filled = [None if lp is None else [0.0] * n + lp for lp, n in zip(given, prompts, strict=True)]
    return [(ids, mask, lp) for (ids, mask), lp in zip(found, filled, strict=True)]


@pytest.mark.parametrize("trainer", ["slime", "skyrl", "verl"])
@unhurried
@given(many_groups(judged=True, logprobs=True, least=1))
def test_no_token_no_mask_bit_and_no_log_probability_is_lost(trainer: str, groups: list[Group]) -> None:
    wanted = trainable(groups)
    if not any_reward(groups):
        with pytest.raises(UsageError, match="none of these samples has a reward"):
            CONVERTERS[trainer](groups)
        return
    assert arrived(trainer, groups) == [(s.ids, s.mask, s.logprobs) for _, _, s in wanted]


@unhurried
@given(many_groups(judged=True, least=2))
def test_trl_gets_every_token_or_an_error_never_groups_that_are_mixed_up(groups: list[Group]) -> None:
    wanted = trainable(groups)
    sizes = [len(list(rows)) for _, rows in groupby(wanted, key=lambda each: each[0])]
    several = len({each[:2] for each in wanted}) < len(wanted)
    rewards, kept = any_reward(groups), Counter(group for group, _, _ in wanted)
    shrunk = any(kept[group.name] != len(group.samples) for group in groups)
    unlike = len({segment.logprobs is None for _, _, segment in wanted}) > 1
    if not rewards or several or len(set(sizes)) > 1 or unlike or shrunk:
        with pytest.raises(UsageError):
            to_trl(groups, logprobs=False)
    else:
        assert [row[:2] for row in arrived("trl", groups)] == [(s.ids, s.mask) for _, _, s in wanted]


# ---------------------------------------------------------------------- shapes


def test_slime_gets_a_list_of_samples_for_each_group() -> None:
    fields = {  # of slime's Sample
        "group_index", "index", "prompt", "tokens", "response", "response_length", "label", "reward", "loss_mask",
        "weight_versions", "rollout_log_probs", "remove_sample", "status", "metadata", "session_id",
    }  # fmt: skip
    made = to_slime([ONE, a_group(a_sample(0, 1.0, a_segment(2, 2, version=3), a_segment(4, 3, version=4)), name="h")])
    assert [[(s["group_index"], s["index"]) for s in group] for group in made] == [[(0, 0), (0, 1)], [(1, 2), (1, 3)]]
    for sample in (sample for group in made for sample in group):
        assert set(sample) <= fields
        assert len(sample["loss_mask"]) == len(sample["rollout_log_probs"]) == sample["response_length"]
        assert sample["status"] in ("pending", "completed", "truncated", "aborted", "failed")
    first = made[0][0]
    assert first["tokens"] == list(range(100, 110)) and first["response_length"] == 7
    assert first["loss_mask"] == [1, 1, 0, 0, 1, 1, 0]
    assert first["rollout_log_probs"] == [-0.5, -0.5, 0.0, 0.0, -0.5, -0.5, 0.0]
    assert [s["reward"] for s in made[1]] == [1.0, 1.0], "segments share their sample's reward"
    assert [s["weight_versions"] for s in made[1]] == [["3"], ["4"]]
    assert [(s["metadata"]["segment"], s["metadata"]["segments"]) for s in made[1]] == [(0, 2), (1, 2)]


def test_skyrl_gets_a_generator_output_that_it_would_take() -> None:
    made = to_skyrl([ONE, a_group(a_sample(4, 1.0, a_segment(2, 2, after=3), a_segment(4, 3)), name="h")])
    rows = len(made["response_ids"])
    for key in ("prompt_token_ids", "rewards", "loss_masks", "stop_reasons", "rollout_logprobs", "trajectory_ids",
                "is_last_step"):  # fmt: skip
        assert len(made[key]) == rows == 4
    for key in ("rewards", "loss_masks", "rollout_logprobs"):
        assert [len(row) for row in made[key]] == [len(row) for row in made["response_ids"]]
    assert made["rewards"][0] == [0, 0, 0, 0, 0, 1.0, 0], "at the model's last token, not at what a tool said after it"
    assert made["rewards"][2] == [0, 1.0, 0, 0, 0]
    assert made["is_last_step"] == [True, True, False, True]
    assert made["trajectory_ids"][2] == made["trajectory_ids"][3] == {"instance_id": "h", "repetition_id": 4}


@unhurried
@given(many_groups(judged=True, least=1))
def test_rows_of_a_sample_are_adjacent_and_its_last_one_is_told(groups: list[Group]) -> None:
    if not any_reward(groups):
        return
    rows = rows_of(groups)
    runs = [list(run) for _, run in groupby(rows, key=lambda row: (row.group.name, row.sample.index))]
    assert len(runs) == len({(row.group.name, row.sample.index) for row in rows})
    assert [[row.last for row in run] for run in runs] == [[False] * (len(run) - 1) + [True] for run in runs]


def test_verl_gets_prompts_padded_on_the_left_and_responses_on_the_right() -> None:
    group = a_group(a_sample(0, 1.0, a_segment(3, 2, 1, tools=1)), a_sample(1, 0.5, a_segment(1, 2)))
    made = to_verl([group], pad_id=9, prompt_length=4, response_length=6)
    batch = made["batch"]
    assert batch["prompts"] == [[9, 100, 101, 102], [9, 9, 9, 100]]
    assert batch["responses"] == [[103, 104, 105, 106, 9, 9], [101, 102, 9, 9, 9, 9]]
    assert batch["input_ids"] == [a + b for a, b in zip(batch["prompts"], batch["responses"], strict=True)]
    assert batch["attention_mask"] == [[0, 1, 1, 1, 1, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1, 0, 0, 0, 0]]
    assert batch["position_ids"] == [[0, 0, 1, 2, 3, 4, 5, 6, 6, 6], [0, 0, 0, 0, 1, 2, 2, 2, 2, 2]]
    assert batch["response_mask"] == [[1, 1, 0, 1, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert batch["rm_scores"] == [[0, 0, 0, 1.0, 0, 0], [0, 0.5, 0, 0, 0, 0]]
    assert batch["rollout_log_probs"] == [[-0.5, -0.5, 0, -0.5, 0, 0], [-0.5, -0.5, 0, 0, 0, 0]]
    assert made["non_tensor_batch"]["uid"] == ["g", "g"]
    assert made["non_tensor_batch"]["__num_turns__"] == [2, 1]
    assert all(len(values) == 2 for values in made["non_tensor_batch"].values())


@pytest.mark.parametrize(("what", "most"), [("prompt", 2), ("response", 5)])
def test_verl_is_told_what_does_not_fit_and_nothing_is_cut(what: str, most: int) -> None:
    with pytest.raises(UsageError, match=rf"a {what} of \d tokens \(group g, sample 0, segment 0\) does not fit"):
        to_verl([ONE], **{f"{what}_length": most})


def test_trl_gets_what_a_rollout_func_returns() -> None:
    made = to_trl([ONE])
    assert made["prompt_ids"] == [[100, 101, 102]] * 2
    assert made["completion_ids"] == [list(range(103, 110)), list(range(103, 107))]
    assert made["env_mask"] == [[1, 1, 0, 0, 1, 1, 0], [1, 1, 1, 1]]
    assert [len(row) for row in made["logprobs"]] == [7, 4]
    assert made["reward"] == [1.0, 0.0] and made["group"] == ["g", "g"]


def test_trl_refuses_what_it_would_group_wrongly() -> None:
    two = a_group(a_sample(0, 1.0, a_segment(2, 2), a_segment(4, 3)))
    with pytest.raises(UsageError, match="group g, sample 0 has 2 segments"):
        to_trl([two])
    smaller = a_group(a_sample(0, 1.0, a_segment(2, 2)), name="h")
    with pytest.raises(UsageError, match="group h has 1 rows and group g 2"):
        to_trl([ONE, smaller])


# ---------------------------------------------------------------------- samples without a reward, without tokens


def rewards(group: Group, **how: Any) -> list[tuple[int, float, bool]]:
    return [(row.sample.index, row.reward, row.masked) for row in rows_of([group], **how)]


def test_what_says_nothing_about_the_model_is_left_out_or_masked() -> None:
    group = a_group(
        a_sample(0, 1.0, a_segment(2, 2)),
        a_sample(1, None, a_segment(2, 2), status="failed"),
        a_sample(2, None, a_segment(2, 2), status="cut off"),
        a_sample(3, None, a_segment(2, 2)),  # handed in, and judging failed
        a_sample(4, None, a_segment(2, 2), status="step limit"),
        a_sample(5, 0.0, a_segment(2, 2), status="format errors"),
        a_sample(6, None, status="failed"),
    )
    assert rewards(group) == [(0, 1.0, False), (4, 0.0, False), (5, 0.0, False)]
    assert rewards(group, unjudged=-1.0)[1] == (4, -1.0, False)
    masked = rewards(group, failed="mask")
    assert [index for index, _, _ in masked] == [0, 1, 2, 3, 4, 5]
    assert [index for index, reward, mask in masked if mask and reward == 0.0] == [1, 2, 3]
    [samples] = to_slime([group], failed="mask")
    assert [s["remove_sample"] for s in samples] == [False, True, True, True, False, False]
    assert samples[1]["loss_mask"] == [0, 0] and samples[1]["status"] == "failed"


def test_a_segment_without_a_token_of_the_model_is_left_out_and_the_last_one_told_right() -> None:
    asked = Segment([1, 2], [0, 0], [-1, -1], [0.0, 0.0])
    rows = rows_of([a_group(a_sample(0, 1.0, a_segment(2, 2), asked))])
    assert [(row.place, row.last) for row in rows] == [(0, True)]


def test_groups_that_nobody_judged_are_refused() -> None:
    with pytest.raises(UsageError, match="none of these samples has a reward") as raised:
        rows_of([a_group(a_sample(0, None, a_segment(2, 2), status="finished"))])
    assert raised.value.hint


# ---------------------------------------------------------------------- log-probabilities


def emulated(group: Group) -> Group:
    return replace(
        group,
        samples=[replace(s, segments=[replace(g, logprobs=None) for g in s.segments]) for s in group.samples],
    )


@pytest.mark.parametrize("trainer", sorted(CONVERTERS))
def test_missing_log_probabilities_are_an_error_where_they_are_wanted(trainer: str) -> None:
    with pytest.raises(
        UsageError, match=r"2 of 2 rows have none \(the first: group g, sample 0, segment 0\)"
    ) as raised:
        CONVERTERS[trainer]([emulated(ONE)], logprobs=True)
    assert "emulated engine" in (raised.value.hint or "")
    CONVERTERS[trainer]([emulated(ONE)], logprobs=False)
    with pytest.raises(UsageError, match="2 of 4 rows have none"):
        CONVERTERS[trainer]([ONE, replace(emulated(ONE), name="h")], logprobs=False)


def test_only_trl_cannot_do_without() -> None:
    assert to_slime([emulated(ONE)])[0][0]["rollout_log_probs"] is None
    assert to_skyrl([emulated(ONE)])["rollout_logprobs"] is None
    assert "rollout_log_probs" not in to_verl([emulated(ONE)])["batch"]
    with pytest.raises(UsageError, match="TRL wants log-probabilities"):
        to_trl([emulated(ONE)])


def test_conversion_leaves_groups_as_they_were() -> None:
    group = seeded_group("g", 3)
    for convert in CONVERTERS.values():
        convert([group])
    assert group == seeded_group("g", 3)
