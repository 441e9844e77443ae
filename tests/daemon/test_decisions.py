"""Decisions are kept as bytes, and come back as they were."""

from __future__ import annotations

from thunderctl.core import effects as fx
from thunderctl.daemon.decisions import Decisions


def test_decisions_come_back_as_they_were_made_with_number_and_moment() -> None:
    decisions = Decisions()
    made = [
        fx.Paused('p "1"', "w0", 17, "über"),
        fx.Restored("p", "w1", 5, 0.25, False, True, "fits"),
        fx.Reject("c", "p", 503, 5.0, "no worker is up"),
        fx.PrepareEnvironment("p", True),
        fx.ReclaimEnvironment("p"),
    ]
    for second, effect in enumerate(made):
        decisions.add(effect, 1_700_000_000.25 + second)
    wanted = [
        {"n": n, "at": 1_700_000_000.25 + n - 1, **fx.to_record(effect)} for n, effect in enumerate(made, start=1)
    ]
    assert decisions.since(0) == wanted
    assert decisions.since(3) == wanted[3:]
    assert list(reversed(decisions)) == wanted[::-1]


def test_only_the_latest_are_kept_and_their_numbers_go_on() -> None:
    decisions = Decisions(kept=3)
    for n in range(10):
        decisions.add(fx.ReclaimEnvironment(f"p{n}"), float(n))
    assert [d["n"] for d in decisions.since(0)] == [8, 9, 10]
    assert [d["program"] for d in decisions.since(9)] == ["p9"]
    assert decisions.since(10) == decisions.since(99) == []
    assert decisions.count == 10
