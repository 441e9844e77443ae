"""Blocking of groups, from records whose figures can be reckoned by hand."""

from __future__ import annotations

from typing import Any

from thunderctl.report.blocking import blocking


def record(group: str | None, ended: float, status: str = "finished") -> dict[str, Any]:
    return {
        "group": group, "instance_id": "t", "program": f"{group}-{ended}", "kind": "trace", "status": status,
        "ended": ended,
    }  # fmt: skip


def test_a_complete_groups_samples_wait_for_its_last_one() -> None:
    found = blocking([record("a", 10), record("a", 40), record("b", 5), record("b", 25)], until=100)
    assert (found.complete, found.open, found.samples) == (2, 0, 4)
    assert (found.mean_s, found.worst_s) == (12.5, 15.0)
    assert (found.so_far_mean_s, found.so_far_worst_s) == (12.5, 15.0)


def test_a_group_that_is_not_complete_has_been_waited_for_until_the_end() -> None:
    found = blocking([record("a", 10), record("a", 30), record("b", 20), record("b", 99, "cut off")], until=100)
    assert (found.complete, found.mean_s) == (1, 10.0)
    assert (found.open, found.so_far_mean_s, found.so_far_worst_s) == (1, 25.0, 40.0)


def test_a_group_of_which_nobody_ended_blocks_nobody_and_a_program_without_a_group_is_left_out() -> None:
    found = blocking([record("a", 99, "cut off"), record(None, 5)], until=100)
    assert (found.complete, found.open, found.samples, found.so_far_worst_s) == (0, 0, 0, 0.0)


def test_a_sample_that_failed_has_ended() -> None:
    found = blocking([record("a", 10, "failed"), record("a", 30)], until=100)
    assert (found.complete, found.worst_s) == (1, 10.0)
