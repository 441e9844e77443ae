"""Which sample of a group comes next, what an end means for the others, and what is kept."""

from __future__ import annotations

from typing import Any

import pytest

from thunderctl.errors import UsageError
from thunderctl.rollouts.groups import NEVER_BEGAN, OpenGroup, Rules, parse_keep
from thunderctl.rollouts.schema import Sample


def a_group(**rules: Any) -> OpenGroup:
    return OpenGroup(3, "g00003", "a-task", Rules(**rules))


def sample(index: int, status: str = "submitted", attempt: int = 1, ended: float = 1.0) -> Sample:
    return Sample("a-task", "g00003", index, attempt, f"p{index}", "replay", status, steps=1, ended=ended)


def test_samples_begin_in_order_and_the_group_is_settled_when_all_have_ended() -> None:
    group = a_group(samples=3)
    assert [group.begin_next() for _ in range(3)] == [(0, 1), (1, 1), (2, 1)]
    for index in (2, 0, 1):
        assert not group.settled
        assert group.ended(sample(index, ended=float(index))) is True
    assert group.settled and group.enough and not group.wants_more
    whole = group.complete(0.5)
    assert [s.index for s in whole.samples] == [0, 1, 2] and (whole.dropped, whole.timed_out) == (0, False)
    assert (whole.started, whole.ended) == (0.5, 2.0)


def test_a_group_with_enough_begins_no_more_and_counts_what_it_drops() -> None:
    group = a_group(samples=5, keep=2)
    for _ in range(4):
        group.begin_next()
    group.ended(sample(3))
    assert not group.enough and group.wants_more
    group.ended(sample(1))
    assert group.enough and not group.wants_more, "the fifth never begins"
    assert group.ended(sample(0)) is False, "it was done as the last of the others was"
    group.ended(sample(2, "cut off"))
    assert group.settled
    whole = group.complete(0.0)
    assert [s.index for s in whole.samples] == [1, 3] and whole.dropped == 2


def test_a_failed_sample_is_begun_again_as_often_as_it_may_be() -> None:
    group = a_group(samples=2, retries=1)
    group.begin_next(), group.begin_next()
    group.ended(sample(0, "failed"))
    assert group.begin_next() == (0, 2) and not group.settled
    group.ended(sample(0, "failed", attempt=2))
    group.ended(sample(1))
    assert group.settled
    whole = group.complete(0.0)
    assert [(s.index, s.attempt, s.status) for s in whole.samples] == [(0, 2, "failed"), (1, 1, "submitted")]
    assert whole.dropped == 1, "the first attempt"


def test_over_sampling_makes_up_for_what_failed() -> None:
    group = a_group(samples=3, keep=2)
    for _ in range(3):
        group.begin_next()
    group.ended(sample(0, "failed"))
    group.ended(sample(1))
    group.ended(sample(2))
    whole = group.complete(0.0)
    assert [s.index for s in whole.samples] == [1, 2] and whole.dropped == 1


def test_when_time_is_up_what_is_done_stays_and_the_rest_is_marked() -> None:
    group = a_group(samples=4)
    group.begin_next(), group.begin_next(), group.begin_next()
    group.ended(sample(1))
    group.time_is_up()
    assert not group.wants_more and not group.settled
    group.ended(sample(0, "cut off"))
    group.ended(sample(2, "failed"))
    assert group.settled and not group.enough
    whole = group.complete(0.0)
    assert [s.status for s in whole.samples] == ["cut off", "submitted", "failed", "cut off"]
    assert whole.timed_out and whole.dropped == 0 and whole.samples[3].error == NEVER_BEGAN


def test_too_few_are_filled_up_with_marked_ones_that_have_something_to_show() -> None:
    group = a_group(samples=4, keep=2)
    group.begin_next(), group.begin_next(), group.begin_next()
    group.ended(sample(2))
    group.time_is_up()
    group.ended(sample(0, "cut off"))
    group.ended(sample(1, "cut off"))
    whole = group.complete(0.0)
    assert [(s.index, s.status) for s in whole.samples] == [(0, "cut off"), (2, "submitted")]
    assert whole.dropped == 1, "the other one that was cut off; the fourth never began"


def test_a_sample_that_was_only_prepared_for_is_not_dropped() -> None:
    group = a_group(samples=3, keep=1)
    group.begin_next(), group.begin_next()
    group.ended(sample(0))
    group.never_began(sample(1, "running"))
    assert group.settled and group.complete(0.0).dropped == 0


@pytest.mark.parametrize(
    "nonsense",
    [
        {"samples": 0}, {"samples": 4, "keep": 5}, {"samples": 4, "keep": 0}, {"timeout_s": 0}, {"retries": -1},
        {"ahead": -1},
    ],
)  # fmt: skip
def test_rules_that_make_no_sense_are_refused(nonsense: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Rules(**nonsense)


def test_how_many_are_kept_is_said_as_first_k() -> None:
    assert parse_keep("first:6") == 6
    for text in ("6", "last:6", "first:", "first:x", "first:-1"):
        with pytest.raises(UsageError, match="not understood"):
            parse_keep(text)
