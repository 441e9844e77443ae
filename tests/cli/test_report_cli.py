"""``report`` and ``compare --runs``: stored runs in every form, and comparisons that are refused or not good enough."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.report.runs import a_simulated_run
from thunderctl.cli.main import app
from thunderctl.errors import BelowLimit, ExitCode, ThunderError, UsageError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three repeats of two policies that contend for KV space, and one run with another seed."""
    folder = tmp_path_factory.mktemp("home")
    for policy in ("baseline", "thunder"):
        for n in range(3):
            a_simulated_run(folder / "runs" / f"{policy}-{n}", 96, policy, duration_s=60)
    a_simulated_run(folder / "runs" / "another-seed", 96, "thunder", duration_s=60, seed=1)
    return folder


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUNDERCTL_HOME", str(home))


def said(*args: str) -> Result:
    return CliRunner().invoke(app, list(args))


def refused(*args: str) -> ThunderError:
    """The error that a command line leads to."""
    result = said(*args)
    assert isinstance(result.exception, ThunderError), result.output
    return result.exception


def test_a_report_comes_in_every_form_with_the_same_figures(home: Path) -> None:
    from_json = json.loads(said("report", "thunder-0", "--format", "json").stdout)
    from_csv = dict(csv.reader(io.StringIO(said("report", "thunder-0", "--format", "csv").stdout)))
    markdown = said("report", "thunder-0", "--format", "md").stdout
    page = said("report", "thunder-0", "--format", "html").stdout.strip()
    rate = from_json["throughput"]["steps_per_min"]
    assert float(from_csv["throughput.steps_per_min"]) == rate
    assert f"| {rate:.6g} |" in markdown
    assert Path(page) == home / "runs" / "thunder-0" / "report.html"
    assert f"<td>{rate:.6g}</td>" in Path(page).read_text()
    assert f"{rate:.1f} steps/min" in said("report", "thunder-0").stdout


def test_a_report_is_opened_where_it_was_written(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The browser is a command that notes what it is to open."""
    note, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {note}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    monkeypatch.setattr("webbrowser._tryorder", None)
    assert said("report", "thunder-0", "--open").exit_code == 0
    assert note.read_text().strip() == (home / "runs" / "thunder-0" / "report.html").as_uri()


@pytest.mark.parametrize("options", [("--open", "--format", "csv"), ("--json", "--format", "md"), ("--json", "--open")])
def test_forms_that_exclude_each_other_are_refused(options: tuple[str, ...]) -> None:
    assert isinstance(refused("report", "thunder-0", *options), UsageError)


BASELINE, THUNDER = "baseline-0,baseline-1,baseline-2", "thunder-0,thunder-1,thunder-2"


def test_stored_runs_are_compared_and_the_page_is_written() -> None:
    result = json.loads(said("compare", "--runs", BASELINE, "--runs", THUNDER, "--json").stdout)
    assert result["arms"] == ["baseline", "thunder"]
    (load,) = result["loads"]
    assert (load["repeats"], load["saturated"], load["warnings"]) == (3, True, [])
    assert "thunder" in (Path(result["folder"]) / "report.html").read_text()


def test_a_limit_that_is_missed_ends_with_5_after_the_table_and_one_that_is_met_with_0() -> None:
    runs = ("--runs", BASELINE, "--runs", THUNDER)
    assert said("compare", *runs, "--fail-below", "thunder/baseline=1.2").exit_code == 0
    missed = refused("compare", *runs, "--fail-below", "thunder/baseline=99")
    assert isinstance(missed, BelowLimit)
    assert missed.exit_code is ExitCode.BELOW_LIMIT == 5
    assert "below 99" in missed.details[0]
    assert "thunder makes" in said("compare", *runs, "--fail-below", "thunder/baseline=99").stdout


def test_runs_with_another_seed_are_refused() -> None:
    assert (
        "different seeds: 0 in 'old'"
        in refused("compare", "--runs", "old=thunder-0", "--runs", "new=another-seed").message
    )


def test_too_few_repeats_decide_nothing() -> None:
    told = refused("compare", "--runs", "baseline-0,thunder-0", "--fail-below", "thunder/baseline=1.2")
    assert "too few repeats for --fail-below: 1" in told.message
    assert "too few repeats: 1" in said("compare", "--runs", "baseline-0,thunder-0").stdout
    before = refused("compare", "swebench", "--repeats", "2", "--fail-below", "thunder/baseline=1.2")
    assert "too few repeats for --fail-below: 2" in before.message


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (("compare",), "say what is to be run"),
        (("compare", "swebench", "--runs", "thunder-0"), "leave the workload out"),
        (("compare", "--runs", "thunder-0,thunder-0"), "names thunder-0 twice"),
        (("compare", "--runs", "thunder-0,thunder-1"), "one arm"),
        (("compare", "swebench", "--agents", "24,x"), "--agents wants numbers"),
        (("compare", "swebench", "--agents", "0"), "--agents wants numbers"),
        (("compare", "swebench", "--repeats", "3", "--fail-below", "paper/baseline=1"), "names arm 'paper'"),
    ],
)
def test_a_comparison_that_cannot_be_meant_is_refused(args: tuple[str, ...], what: str) -> None:
    assert what in refused(*args).message
