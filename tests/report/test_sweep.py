"""A sweep's table, headline and page say what was simulated, and that it was."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import plotly.graph_objects
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from thunderctl.report import plots
from thunderctl.report.sweep import (
    HIT_RATE_WITHIN,
    PAPER_RATIO,
    STEPS_WITHIN,
    Agreement,
    Outcome,
    Sweep,
    agreement_table,
    headline,
    memory_of,
    paper_note,
    preemptions_of,
    sweep_table,
)

NASTY = "</script><script>alert('[bold]x[/bold]')</script>"


def a_summary(steps_per_min: float, hit_rate: float) -> dict[str, Any]:
    return {
        "throughput": {"steps_per_min": steps_per_min},
        "hit_rate": hit_rate,
        "latency_s": {"p50": 2.5, "p90": 30.25},
        "scheduler": {"pauses": 7},
        "imbalance": {"mean": 0.31, "max": 0.9},
    }


def an_outcome(agents: int, policy: str, steps_per_min: float, hit_rate: float = 0.5, workers: int = 1) -> Outcome:
    memory = {f"w{n}": [(2.0 * t, 0.1 * n + t / 1000) for t in range(700)] for n in range(workers)}
    return Outcome(agents, policy, a_summary(steps_per_min, hit_rate), 3, memory, 0.7)


def a_sweep(workers: int = 1, **changes: Any) -> Sweep:
    outcomes = tuple(
        an_outcome(agents, policy, rate, hit, workers)
        for agents, policy, rate, hit in [
            (24, "baseline", 100.0, 0.9), (24, "thunder", 101.0, 0.91),
            (96, "baseline", 80.0, 0.07), (96, "thunder", 200.0, 0.95),
        ]
    )  # fmt: skip
    profile, model = "emulated-h100x8-glm46", "glm-4.6-fp8"
    sweep = Sweep(profile, model, "coding", "d1", workers, 560_224, 600.0, None, "steady", 0, outcomes)
    return replace(sweep, **changes)


def shown(content: Any, width: int = 120) -> str:
    console = Console(width=width, record=True, file=None)
    with console.capture() as captured:
        console.print(content)
    return captured.get()


def test_the_table_has_a_row_for_each_setting_with_the_ratio_to_the_first_policy() -> None:
    text = shown(sweep_table(a_sweep()))
    rows = [line.split() for line in text.splitlines() if re.match(r" +(24|96) ", line)]
    assert [row[:4] for row in rows] == [
        ["24", "baseline", "100.0", "1.00×"],
        ["24", "thunder", "101.0", "1.01×"],
        ["96", "baseline", "80.0", "1.00×"],
        ["96", "thunder", "200.0", "2.50×"],
    ]
    assert rows[3][4:] == ["0.950", "7", "2.5", "30.2", "3", "0.7"]


def test_imbalance_is_shown_only_where_there_is_somebody_to_differ_from() -> None:
    assert "imbalance" not in shown(sweep_table(a_sweep(1)))
    assert "0.31" in shown(sweep_table(a_sweep(2)))


def test_every_heading_says_that_it_is_simulated() -> None:
    sweep = a_sweep(2)
    assert sweep.title.startswith("Simulated")
    assert headline(sweep).sentence.startswith("Simulated")
    assert all("simulated" in figure.title for figure in plots.figures(sweep))
    assert all("imulated" in heading for heading in re.findall(r"<h[12]>(.*?)</h[12]>", plots.page(sweep)))


def test_the_headline_is_about_the_largest_number_of_agents() -> None:
    found = headline(a_sweep())
    assert "at 96 agents thunder makes 2.50× the steps of baseline (200 against 80 a minute)" in found.sentence
    assert [value for value, _ in found.figures] == ["2.50×", "200", "0.95"]


def test_a_single_policy_has_a_headline_without_a_comparison() -> None:
    found = headline(a_sweep(outcomes=(an_outcome(48, "thunder", 180.0, 0.9),)))
    assert "48 agents under thunder make 180 steps" in found.sentence
    assert [value for value, _ in found.figures] == ["180", "0.90", "30.2 s"]


def test_a_base_that_made_no_step_gives_no_ratio() -> None:
    sweep = a_sweep(outcomes=(an_outcome(96, "baseline", 0.0), an_outcome(96, "thunder", 5.0)))
    assert sweep.ratio(sweep.outcomes[1]) is None
    assert "–" in shown(sweep_table(sweep))
    assert headline(sweep).figures[0][0] == "–"
    assert paper_note(sweep) is None


def test_the_papers_ratio_stands_beside_ours_with_what_differs() -> None:
    note = paper_note(a_sweep()) or ""
    assert "thunder 2.50×" in note
    assert f"{PAPER_RATIO}×" in note
    assert "arXiv 2602.13692" in note
    assert "differ" in note


@pytest.mark.parametrize(
    "other",
    [
        {"model": "qwen3-8b"},
        {"model": None},
        {"workers": 2},
        {"outcomes": (an_outcome(48, "baseline", 1.0), an_outcome(48, "thunder", 2.0))},
        {"outcomes": (an_outcome(96, "paper", 1.0), an_outcome(96, "thunder", 2.0))},
        {"outcomes": (an_outcome(96, "baseline", 1.0),)},
    ],
)
def test_the_papers_ratio_is_not_shown_beside_another_experiment(other: dict[str, Any]) -> None:
    assert paper_note(a_sweep(**other)) is None


def test_the_sweep_as_data_is_json_and_keeps_every_setting() -> None:
    data = json.loads(json.dumps(a_sweep(2).as_dict(), allow_nan=False))
    assert data["simulated"] is True
    assert [(o["agents"], o["policy"], o["ratio"]) for o in data["outcomes"]][-1] == (96, "thunder", 2.5)
    assert set(data["outcomes"][0]["memory"]) == {"w0", "w1"}


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_plotly_accepts_every_figure(workers: int) -> None:
    """Its own classes refuse unknown properties and values."""
    found = plots.figures(a_sweep(workers))
    assert len(found) == (3 if workers == 1 else 6)
    for figure in found:
        drawn = plotly.graph_objects.Figure(data=figure.data, layout=figure.layout)
        assert len(drawn.data) > 0


def test_a_figure_shows_each_policy_over_the_numbers_of_agents() -> None:
    throughput, hit_rate, latency, *_ = plots.figures(a_sweep())
    assert [(line["name"], line["x"], line["y"]) for line in throughput.data] == [
        ("baseline", [24, 96], [100.0, 80.0]),
        ("thunder", [24, 96], [101.0, 200.0]),
    ]
    assert [line["y"] for line in hit_rate.data] == [[0.9, 0.07], [0.91, 0.95]]
    assert [line["name"] for line in latency.data] == ["baseline p90", "baseline p50", "thunder p90", "thunder p50"]


def test_memory_over_time_has_a_line_for_each_worker_and_few_points() -> None:
    *_, memory = plots.figures(a_sweep(9))
    assert [line["name"] for line in memory.data] == [f"w{n}" for n in range(9)]
    assert all(100 < len(line["x"]) <= plots.POINTS for line in memory.data)
    looks = {(line["line"]["color"], line["line"]["dash"]) for line in memory.data}
    assert len(looks) == 9


class Tags(HTMLParser):
    """Which elements a page has, and what its text says outside of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:
            self.text += data


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


def test_the_page_needs_nothing_else() -> None:
    page = plots.page(a_sweep(2))
    assert all(link.startswith("#") for link in parsed(page).links)
    assert "default-src 'none'" in page
    assert "@import" not in page


def test_the_page_begins_with_the_headline_and_its_three_figures() -> None:
    text = parsed(plots.page(a_sweep())).text
    assert text.index("at 96 agents thunder makes 2.50×") < text.index("cache hit rate of thunder (baseline: 0.07)")
    assert text.index("cache hit rate of thunder (baseline: 0.07)") < text.index("Throughput (simulated)")


def test_whatever_comes_from_outside_is_text_on_the_page() -> None:
    """A trace's name is a file's, so it may be anything."""
    outcomes = tuple(an_outcome(96, policy, 10.0, workers=2) for policy in (NASTY, "thunder"))
    page = plots.page(a_sweep(2, profile=NASTY, trace=NASTY, outcomes=outcomes))
    tags = parsed(page)
    assert tags.tags.count("script") == 3
    assert NASTY in tags.text
    assert NASTY not in page


def test_whatever_comes_from_outside_is_text_on_the_terminal() -> None:
    outcomes = tuple(an_outcome(96, policy, 10.0) for policy in ("[bold]x[/bold]", "thunder"))
    text = shown(sweep_table(a_sweep(trace="[red]y", outcomes=outcomes)))
    assert "[bold]x[/bold]" in text
    assert "[red]y" in text


def a_sample(worker: str, at: float, preempted: int, reasoning: int, acting: int) -> dict[str, Any]:
    return {
        "worker": worker, "at": at, "engine": {"preemptions": preempted},
        "reasoning_tokens": reasoning, "acting_tokens": acting, "capacity_tokens": 1000,
    }  # fmt: skip


def test_preemptions_are_those_of_the_run_not_of_the_engines_life() -> None:
    counts = [("w0", 0, 5), ("w1", 0, 2), ("w0", 2, 9), ("w1", 2, 2)]
    assert preemptions_of(a_sample(worker, at, count, 0, 0) for worker, at, count in counts) == 4
    assert preemptions_of([]) == 0


def test_memory_is_what_the_programs_of_a_worker_take_of_its_capacity() -> None:
    samples = [a_sample("w0", 0.0, 0, 300, 200), a_sample("w1", 0.0, 0, 0, 0), a_sample("w0", 2.0, 0, 900, 300)]
    assert memory_of(samples) == {"w0": [(0.0, 0.5), (2.0, 1.2)], "w1": [(0.0, 0.0)]}


def an_agreement(measured: tuple[float, float], simulated: tuple[float, float]) -> Agreement:
    return Agreement("r1", "trace", "thunder", 48, a_summary(*measured), a_summary(*simulated))


@given(st.floats(1, 1000), st.floats(-0.3, 0.3), st.floats(0.3, 0.7), st.floats(-0.2, 0.2))
def test_a_run_agrees_exactly_when_both_figures_are_near_enough(
    rate: float, rate_apart: float, hit: float, hit_apart: float
) -> None:
    found = an_agreement((rate, hit), (rate * (1 + rate_apart), hit + hit_apart))
    assert found.steps_apart == pytest.approx(rate_apart, abs=1e-9)
    assert found.hit_rate_apart == pytest.approx(hit_apart, abs=1e-9)
    assert found.agrees == (abs(found.steps_apart) <= STEPS_WITHIN and abs(found.hit_rate_apart) <= HIT_RATE_WITHIN)


def test_the_table_of_agreement_shows_both_sides_the_difference_and_the_verdict() -> None:
    good, bad = an_agreement((100, 0.90), (104, 0.93)), an_agreement((100, 0.90), (85, 0.80))
    text = shown(agreement_table([good, bad]), 200)
    assert "+4.0%" in text
    assert "-15.0%" in text
    assert "+3.0 points" in text
    assert "1 of 2 runs agree" in text
