"""The shape of a load is what the options say, the same for the same seed, and what cannot be meant is refused."""

from __future__ import annotations

from itertools import islice

import pytest

from thunderctl.errors import UsageError
from thunderctl.runs.shape import Shape, Warmup, choose, parse_arrival, parse_slice, parse_warmup

LETTERS = [(name, name) for name in "abcdefgh"]


def chosen(**how: object) -> str:
    nothing = {"pattern": None, "part": None, "shuffle": False, "seed": 0, "what": "task"}
    return "".join(choose(LETTERS, **{**nothing, **how}))  # type: ignore[arg-type]


def test_arrivals_keep_their_rate_and_are_the_same_for_the_same_seed() -> None:
    times = list(islice(Shape(arrivals_per_min=120, seed=3).arrivals(), 4000))
    assert times == list(islice(Shape(arrivals_per_min=120, seed=3).arrivals(), 4000))
    assert times != list(islice(Shape(arrivals_per_min=120, seed=4).arrivals(), 4000))
    assert times == sorted(times) and 1900 < times[-1] < 2100
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert 0.58 < sum(gap < 0.5 for gap in gaps) / len(gaps) < 0.68, "exponential gaps: 63% are below their mean"


def test_a_ramp_opens_places_evenly_and_none_opens_all_at_once() -> None:
    assert [Shape(ramp_s=60).opens_at(place, 4) for place in range(4)] == [0, 15, 30, 45]
    assert [Shape().opens_at(place, 4) for place in range(4)] == [0, 0, 0, 0]


def test_a_warmup_is_seconds_or_a_share_and_never_longer_than_the_run() -> None:
    assert parse_warmup("30") == parse_warmup("30s") == Warmup(seconds=30)
    assert parse_warmup("12.5%") == Warmup(share=0.125)
    assert (Warmup(seconds=30).of(100), Warmup(seconds=30).of(20), Warmup(share=0.1).of(200)) == (30, 20, 20)


@pytest.mark.parametrize("text", ["poisson", "poisson:", "poisson:0", "poisson:-3", "poisson:nan", "even:4", "12"])
def test_an_arrival_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--arrival"):
        parse_arrival(text)
    assert parse_arrival("poisson:12") == 12


@pytest.mark.parametrize("text", ["", "x", "-3", "100%", "10 %", "3m"])
def test_a_warmup_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--warmup"):
        parse_warmup(text)


@pytest.mark.parametrize("text", ["", "3", "a:b", "1:2:3", "1-2"])
def test_a_slice_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--slice"):
        parse_slice(text)


def test_tasks_are_filtered_then_shuffled_then_cut() -> None:
    assert chosen() == "abcdefgh"
    assert chosen(part="2:5") == "cde" and chosen(part="-2:") == "gh" and chosen(part=":3") == "abc"
    assert chosen(pattern="[a-d]") == "abcd"
    assert sorted(chosen(shuffle=True)) == list("abcdefgh") and chosen(shuffle=True) != "abcdefgh"
    assert chosen(shuffle=True, seed=5) == chosen(shuffle=True, seed=5) != chosen(shuffle=True, seed=6)
    assert chosen(shuffle=True, seed=5, part="0:3") == chosen(shuffle=True, seed=5)[:3]


def test_a_choice_that_leaves_nothing_says_what_there_was() -> None:
    with pytest.raises(UsageError, match="matches no task") as caught:
        chosen(pattern="x*")
    assert "a, b, c" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="leaves no task of 8"):
        chosen(part="8:")
