"""Figures of a roll-out follow from its groups, and from nothing that was made up."""

from __future__ import annotations

import json

import pytest

from thunderctl.rollouts.figures import figures, line_of, newest_in
from thunderctl.rollouts.schema import NOT_THE_MODEL, Group, Sample, Segment

RUN = {"window_s": 10.0, "throughput": {"steps_per_min": 12.0}, "hit_rate": 0.5}
ASKED = {"groups": 3, "samples_per_task": 2, "keep": None}


def sample(index: int, versions: list[int], ended: float, status: str = "submitted", **more: object) -> Sample:
    mask = [int(version != NOT_THE_MODEL) for version in versions]
    segment = Segment(list(range(len(versions))), mask, versions, [-0.5 * m for m in mask])
    found = Sample("t", "g", index, 1, f"p{index}", "live", status, segments=[segment], steps=2, ended=ended)
    for name, value in more.items():
        setattr(found, name, value)
    return found


GROUPS = [
    Group("a", "t", [sample(0, [-1, 0, 0], 4.0, reward=1.0), sample(1, [-1, 0, 1], 8.0, reward=0.0)], dropped=3),
    Group("b", "t", [sample(0, [-1, 2], 6.0, attempt=2), sample(1, [-1], 6.0, "cut off")], timed_out=True),
]


def test_tokens_blocking_rewards_and_staleness_are_those_of_the_kept_samples() -> None:
    lines = [json.loads(json.dumps(line_of(group, 2))) for group in GROUPS]
    came = figures(RUN, ASKED, [*lines, lines[0]])
    assert came["groups"] == {"asked": 3, "complete": 2, "timed_out": 1, "mixed": 1}
    assert came["samples"]["by_status"] == {"submitted": 3, "cut off": 1}
    assert (came["samples"]["done"], came["samples"]["dropped"], came["samples"]["replaced"]) == (3, 3, 1)
    assert came["rewards"] == {"judged": 2, "mean": 0.5, "nothing_to_judge": 1}
    assert came["tokens"] == {"model": 5, "all": 9, "with_logprobs": 5, "model_per_s": 0.5}
    assert came["blocking_s"] == {"mean": pytest.approx(1.0), "worst": pytest.approx(2.0)}
    assert came["staleness"] == {"mean": pytest.approx((2 + 2 + 2 + 1 + 0) / 5), "worst": 2}
    assert newest_in(GROUPS[0]) == 1 and newest_in(Group("c", "t")) == 0


def test_a_roll_out_without_a_group_has_no_figures_that_need_one() -> None:
    came = figures({**RUN, "window_s": 0.0}, ASKED, [])
    assert came["blocking_s"] == {"mean": None, "worst": None} and came["rewards"]["mean"] is None
    assert came["tokens"]["model_per_s"] == 0 == came["staleness"]["mean"]
