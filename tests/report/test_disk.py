"""Disk over time in reports: what was there, and what would have been there without collection."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.report.test_stats import a_run
from thunderctl.report.disk import GIB, POINTS, over_time, run_figure, without_collection
from thunderctl.report.run_page import write_page
from thunderctl.report.stats import summarise
from thunderctl.report.tables import run_table


def sample(at: float, now: int, collected: int) -> dict[str, Any]:
    return {"at": at, "bytes_now": now, "by_kind": {"containers": now}, "collected_bytes": collected}


def test_without_collection_everything_that_ever_was_would_still_be_there() -> None:
    # Two environments of 100, one after the other; then one of 50 that no sample sees while it lives.
    samples = [sample(0, 0, 0), sample(1, 100, 0), sample(2, 100, 100), sample(3, 0, 250)]
    assert without_collection(samples) == [0, 100, 200, 250]


def test_what_was_collected_before_the_run_began_is_no_part_of_it() -> None:
    assert without_collection([sample(0, 10, 1000), sample(1, 10, 1005)]) == [10, 15]


def test_samples_of_earlier_versions_tell_nothing_about_it() -> None:
    assert without_collection([{"at": 0, "bytes_now": 5, "by_kind": {}}]) == []
    assert without_collection([]) == []


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), min_size=1))
def test_it_never_claims_less_than_what_is_there(steps: list[tuple[int, int]]) -> None:
    collected, samples = 0, []
    for number, (now, more) in enumerate(steps):
        collected += more
        samples.append(sample(number, now, collected))
    assert all(a >= s["bytes_now"] for a, s in zip(without_collection(samples), samples, strict=True))


def test_a_long_line_is_thinned_out_but_keeps_its_peak() -> None:
    at = [float(second) for second in range(10_000)]
    held = [GIB] * 10_000
    held[4321] = 7 * GIB
    line = over_time({"one": (at, held)}, "", "").data[0]
    assert len(line["x"]) == len(line["y"]) <= POINTS
    assert max(line["y"]) == 7


def test_the_report_of_a_run_says_and_draws_what_collection_saved(tmp_path: Path) -> None:
    run = a_run(tmp_path / "r")
    for number in range(5):
        run.append("disk", sample(20.0 + number, 2**21, number * 2**21))
    (run.folder / "disk.jsonl").write_text("".join((run.folder / "disk.jsonl").read_text().splitlines(True)[-5:]))
    summary = summarise(run)
    assert summary["disk"]["without_collection_peak_bytes"] == 5 * 2**21
    console = Console(file=io.StringIO(), width=120)
    console.print(run_table(summary))
    assert "10.0 MiB peak, 5.0× as much (computed)" in console.file.getvalue()  # type: ignore[attr-defined]
    write_page(run, summary)
    page = (run.folder / "report.html").read_text()
    assert "without collection (computed)" in page and "steps/min" in page and 'src="http' not in page


@pytest.mark.parametrize("samples", [[], [sample(0, 0, 0)]], ids=["no samples", "nothing held"])
def test_a_run_without_environments_has_no_plot(samples: list[dict[str, Any]]) -> None:
    assert run_figure(samples) is None
