"""What a roll-out is made of is plain data: it survives being told as JSON."""

from __future__ import annotations

import json

from hypothesis import given

from tests.rollouts.made_groups import groups
from tests.rollouts.seeded_groups import seeded_group
from thunderctl.rollouts.schema import SCHEMA, Group, Sample, digest_of


@given(groups())
def test_a_group_survives_json_exactly(group: Group) -> None:
    assert Group.from_dict(json.loads(json.dumps(group.as_dict()))) == group


def test_telling_a_group_copies_no_tokens_and_changes_nothing() -> None:
    group = seeded_group("g", 1)
    told = group.as_dict()
    assert told["schema"] == SCHEMA
    assert told["samples"][0]["segments"][0]["ids"] is group.samples[0].segments[0].ids
    assert group == seeded_group("g", 1)


def test_what_this_version_does_not_know_is_left_out() -> None:
    told = seeded_group("g", 1).as_dict()
    told["colour"] = told["samples"][0]["colour"] = told["samples"][0]["segments"][0]["turns"][0]["colour"] = "red"
    assert Group.from_dict(told) == seeded_group("g", 1)


def test_a_group_is_blocked_while_those_that_are_done_wait_for_its_last() -> None:
    def ended(at: float) -> Sample:
        return Sample("t", "g", 0, 1, "p", "live", "submitted", ended=at)

    assert Group("g", "t", [ended(10.0), ended(20.0), ended(60.0)]).blocking_s == 30.0
    assert Group("g", "t").blocking_s == 0.0


def test_a_digest_tells_one_id_changed_moved_or_cut() -> None:
    ids = list(range(1000))
    others = [ids[:-1], [*ids, 0], [1, 0, *ids[2:]], [*ids[:500], 7, *ids[501:]]]
    assert len({digest_of(each) for each in (ids, *others)}) == 5
    assert digest_of([1, 2, 3]) == "d69c56745f6a3d9e"  # stored ones must stay comparable
