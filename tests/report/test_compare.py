"""Comparisons give ratios with intervals, say when they mean nothing, and refuse what cannot be compared."""

from __future__ import annotations

import io
import json
import random
from html import unescape
from pathlib import Path
from typing import Any

import plotly.graph_objects
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.report.test_stats import a_run, a_trace_run
from thunderctl.errors import UsageError
from thunderctl.report import compare_page
from thunderctl.report.compare import REPEATS, STEPS, Limit, arms_of, compare, ratio, saturated
from thunderctl.report.compare_table import compare_table, headline, row_of, warnings
from thunderctl.report.stats import summarise


def pair(tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return summarise(a_run(tmp_path / "a", 1)), summarise(a_run(tmp_path / "b", 1))


def trace_pair(tmp_path: Path, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return summarise(a_trace_run(tmp_path / "a", **more)), summarise(a_trace_run(tmp_path / "b", **more))


def changed(summary: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """A copy with some keys of its sections, or whole values, replaced."""
    copy = json.loads(json.dumps(summary))
    for key, value in sections.items():
        copy[key] = {**copy[key], **value} if isinstance(copy.get(key), dict) else value
    return copy


def shown(what: Any, width: int = 250) -> str:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def three(summary: dict[str, Any], *rates: float, **sections: Any) -> list[dict[str, Any]]:
    """A repeat for each rate of steps."""
    return [changed(summary, throughput={"steps_per_min": rate}, **sections) for rate in rates]


FULL = {"load": {"over_capacity": 0.9, "mean": 2.0, "max": 3.0}}


def test_a_comparison_gives_the_ratio_of_means_with_a_bootstrap_interval(tmp_path: Path) -> None:
    a, _ = pair(tmp_path)
    result = compare([{"baseline": three(a, 100, 100, 100), "thunder": three(a, 200, 300, 400)}])
    entry = row_of(result["loads"][0], STEPS)["arms"]["thunder"]
    assert entry["ratio"] == {"of_means": pytest.approx(3), "low": pytest.approx(2), "high": pytest.approx(4)}
    assert (entry["low"], entry["high"]) == (200, 400)
    assert "3.00×  [2.00 – 4.00]" in shown(compare_table(result))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(1, 1000), st.floats(1, 1000)), min_size=REPEATS, max_size=8))
def test_an_interval_holds_the_ratio_and_lies_within_the_pairs(pairs: list[tuple[float, float]]) -> None:
    base, other = [a for a, _ in pairs], [b for _, b in pairs]
    found = ratio(base, other)
    assert found is not None
    singles = [b / a for a, b in pairs]
    assert min(singles) - 1e-9 <= found["low"] <= found["high"] <= max(singles) + 1e-9
    assert found == ratio(base, other), "the same repeats give the same interval"


def test_a_bootstrap_interval_holds_the_true_ratio_most_of_the_time() -> None:
    chance = random.Random(7)
    held = 0
    for _ in range(50):
        base = [chance.gauss(100, 10) for _ in range(8)]
        other = [chance.gauss(150, 10) for _ in range(8)]
        found = ratio(base, other)
        assert found is not None
        held += found["low"] <= 1.5 <= found["high"]
    assert held >= 40


@pytest.mark.parametrize(("section", "key"), [("done", "steps"), ("done", "output_tokens"), ("agents", "asked")])
def test_arms_that_did_different_work_are_refused(section: str, key: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    b[section][key] += 1
    with pytest.raises(UsageError, match=f"different work: {section}.{key}"):
        compare([{"baseline": [a], "thunder": [b]}])


def test_other_tasks_are_named_and_refused(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    a, b = changed(a, tasks=["t1", "t2", "t2"]), changed(b, tasks=["t1", "t2", "t3"])
    with pytest.raises(UsageError, match="different tasks: only 'baseline' .* has t2; only 'thunder' .* has t3"):
        compare([{"baseline": [a], "thunder": [b]}])


def test_other_models_are_named_and_refused(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    with pytest.raises(UsageError, match="different models: qwen in 'baseline' .* and glm in 'thunder'"):
        compare([{"baseline": [changed(a, model="qwen")], "thunder": [changed(b, model="glm")]}])


def test_other_seeds_are_named_and_refused(tmp_path: Path) -> None:
    a, b = trace_pair(tmp_path)
    with pytest.raises(UsageError, match="different seeds: 0 in 'baseline' .* and 1 in 'thunder'"):
        compare([{"baseline": [a], "thunder": [changed(b, seed=1)]}])


def test_a_run_with_errors_above_its_limit_is_refused_with_the_errors(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    failed = {"failed": 3, "share": 0.6, "limit": 0.2, "messages": {"worker w0 hung up": 3}}
    with pytest.raises(UsageError, match=r"errors above its limit: 3 programs failed \(60.0%\), 20.0%") as raised:
        compare([{"baseline": [a], "thunder": [changed(b, errors=failed, complete=False)]}])
    assert raised.value.details == ["worker w0 hung up"]


def test_a_run_that_was_cut_short_is_not_compared(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    with pytest.raises(UsageError, match="did not end"):
        compare([{"baseline": [a], "thunder": [changed(b, complete=False)]}])


def test_arms_with_different_numbers_of_repeats_are_refused(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    with pytest.raises(UsageError, match="different numbers of repeats: baseline 2, thunder 1"):
        compare([{"baseline": [a, a], "thunder": [b]}])


def test_too_few_repeats_have_no_interval_and_are_said_to_be_too_few(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    result = compare([{"baseline": [changed(a, **FULL)] * 2, "thunder": [b] * 2}])
    assert row_of(result["loads"][0], STEPS)["arms"]["thunder"]["ratio"]["low"] is None
    assert [line for line in warnings(result) if "too few repeats: 2" in line]


def test_a_load_below_saturation_is_said_to_mean_nothing(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    idle = {"load": {"over_capacity": 0.0, "max": 0.4}, "held_s": {"mean": 0.0}}
    result = compare([{"baseline": [changed(a, **idle)], "thunder": [changed(b, **idle)]}])
    assert "below saturation: 40.0% of the KV space" in warnings(result)[0]
    assert headline(result)[0].startswith("Below saturation, so it says nothing")
    assert "below saturation" in shown(compare_table(result))
    assert "below saturation" in compare_page.page(result)


@pytest.mark.parametrize("pressed", [FULL, {"held_s": {"mean": 5.0}}])
def test_contention_shows_as_reserved_space_or_as_waiting(pressed: dict[str, Any], tmp_path: Path) -> None:
    a, _ = pair(tmp_path)
    a = changed(a, load={"over_capacity": 0.0}, held_s={"mean": 0.0})
    assert not saturated(a)
    assert saturated(changed(a, **pressed))


def test_arms_of_a_trace_are_compared_without_figures_that_mean_nothing_there(tmp_path: Path) -> None:
    a, b = trace_pair(tmp_path)
    result = compare([{"baseline": [a], "thunder": [b]}])
    figures = [row["figure"] for row in result["loads"][0]["figures"]]
    assert "imbalance of workers" in figures and "resolved" not in figures
    table = shown(compare_table(result))
    assert "emulated" in table and "host lag" in table


@pytest.mark.parametrize("key", ["digest", "programs", "duration_s", "start", "seed"])
def test_arms_with_other_queues_are_refused(key: str, tmp_path: Path) -> None:
    a, b = trace_pair(tmp_path)
    b["trace"][key] = "other"
    with pytest.raises(UsageError, match=f"different work: trace.{key}"):
        compare([{"baseline": [a], "thunder": [b]}])


def test_arms_that_ran_to_the_end_did_the_same_steps_and_arms_cut_off_need_not(tmp_path: Path) -> None:
    a, b = trace_pair(tmp_path / "whole")
    b["done"]["steps"] += 1
    with pytest.raises(UsageError, match=r"different work: done\.steps"):
        compare([{"baseline": [a], "thunder": [b]}])
    a, b = trace_pair(tmp_path / "cut", duration_s=4.0, programs=None)
    b["done"]["steps"] += 1
    assert compare([{"baseline": [a], "thunder": [b]}])["arms"] == ["baseline", "thunder"]


def test_arms_that_the_clock_ended_need_not_have_come_equally_far_but_began_alike(tmp_path: Path) -> None:
    a, b = (changed(s, ended="duration") for s in pair(tmp_path))
    b["done"]["steps"] += 7
    assert compare([{"baseline": [a], "thunder": [b]}])["arms"] == ["baseline", "thunder"]
    with pytest.raises(UsageError, match="different work: shape"):
        compare([{"baseline": [a], "thunder": [changed(b, shape={"ramp_s": 60})]}])


# ------------------------------------------------------------------ stored runs and sweeps


def a_sweep(tmp_path: Path) -> list[dict[str, Any]]:
    """Three repeats of two policies at two loads, as stored runs come: in any order."""
    a, _ = trace_pair(tmp_path, duration_s=4.0, programs=None)
    found = []
    for agents, rates in ((24, (100, 101)), (96, (80, 200))):
        for policy, rate in zip(("baseline", "thunder"), rates, strict=True):
            for n in range(3):
                run = f"{agents}-{policy}-{n}"
                pressed = FULL if agents == 96 else {"load": {"over_capacity": 0.0}, "held_s": {"mean": 0.0}}
                asked, made = {"asked": agents}, {"steps_per_min": rate + n}
                found.append(changed(a, run=run, policy=policy, agents=asked, throughput=made, **pressed))
    return found


def test_stored_runs_are_sorted_into_arms_by_policy_and_into_loads_by_agents(tmp_path: Path) -> None:
    result = compare(arms_of(a_sweep(tmp_path)))
    assert result["arms"] == ["baseline", "thunder"]
    assert [(load["agents"], load["repeats"], load["saturated"]) for load in result["loads"]] == [
        (24, 3, False),
        (96, 3, True),
    ]
    assert result["loads"][1]["runs"]["thunder"] == ["96-thunder-0", "96-thunder-1", "96-thunder-2"]
    assert "at 96 agents thunder makes 2.48×" in headline(result)[0]


def test_named_arms_win_over_policies(tmp_path: Path) -> None:
    runs = [s for s in a_sweep(tmp_path) if s["policy"] == "thunder" and s["agents"]["asked"] == 96][:2]
    loads = arms_of(runs, {"old": ["96-thunder-0"], "new": ["96-thunder-1"]})
    assert list(loads[0]) == ["old", "new"]
    with pytest.raises(UsageError, match="one arm"):
        arms_of(runs)


def test_an_arm_that_lacks_a_load_is_named(tmp_path: Path) -> None:
    kept = [s for s in a_sweep(tmp_path) if s["run"][:5] != "24-th"]
    with pytest.raises(UsageError, match="no run of arm 'thunder' with 24 agents"):
        arms_of(kept)


def test_plotly_accepts_every_figure_of_one_load_and_of_several(tmp_path: Path) -> None:
    runs = a_sweep(tmp_path)
    one = compare(arms_of([s for s in runs if s["agents"]["asked"] == 96]))
    drawn = compare_page._side_by_side(one)
    drawn += [compare_page._over_agents(compare(arms_of(runs)), *what) for what in compare_page.PLOTS]
    for figure in drawn:
        assert len(plotly.graph_objects.Figure(data=figure.data, layout=figure.layout).data) > 0


def test_a_sweeps_page_plots_the_paper_figures_and_lists_every_run(tmp_path: Path) -> None:
    page = unescape(compare_page.page(compare(arms_of(a_sweep(tmp_path)))))
    assert "The paper's Figure 4a in shape" in page and "Figures at 24 agents" in page
    assert "--runs baseline=24-baseline-0,24-baseline-1" in page


NASTY = "</script><script>alert('x')</script>"


def test_names_from_outside_are_text_on_the_page(tmp_path: Path) -> None:
    runs = [changed(s, workload=NASTY, profile=NASTY, policy=NASTY + s["policy"]) for s in a_sweep(tmp_path)]
    page = compare_page.page(compare(arms_of(runs)))
    assert NASTY not in page
    assert page.count("<script") == 3


# ------------------------------------------------------------------ limits


def test_a_limit_is_reached_or_said_to_be_missed(tmp_path: Path) -> None:
    result = compare(arms_of(a_sweep(tmp_path)))
    assert Limit.parse("thunder/baseline=2.4", result["arms"]).judge(result) is None
    missed = Limit.parse("thunder/baseline=2.6", result["arms"]).judge(result)
    assert missed is not None and "2.48× [2.4" in missed and "below 2.6" in missed


def test_a_load_below_saturation_reaches_no_limit(tmp_path: Path) -> None:
    result = compare(arms_of([s for s in a_sweep(tmp_path) if s["agents"]["asked"] == 24]))
    assert "below saturation" in (Limit.parse("thunder/baseline=0.5", result["arms"]).judge(result) or "")


@pytest.mark.parametrize("text", ["thunder", "thunder/baseline", "thunder/baseline=x", "thunder/baseline=-1", "a/b=1"])
def test_a_limit_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--fail-below"):
        Limit.parse(text, ["baseline", "thunder"])
