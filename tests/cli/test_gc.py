"""The command as a person meets it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from thunderctl import paths
from thunderctl.cli.gc import age, gc, seconds
from thunderctl.errors import UsageError
from thunderctl.node import NodeRecord, write_node

app = typer.Typer()
app.command("gc")(gc)


@pytest.fixture(autouse=True)
def dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one dead node that left one folder."""
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    monkeypatch.setenv("COLUMNS", "200")
    folder = paths.nodes() / "gone"
    write_node(folder, NodeRecord(os.getpid(), 1.0, "", "p", "d", 1.0))
    (folder / "environments" / "abc").mkdir(parents=True)
    return folder


def test_the_plan_is_shown_and_carried_out_off_a_terminal(dead: Path) -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0, result.output
    assert "its node gone is dead" in result.output
    assert "reclaimed 2" in result.output and "1 folder, 1 node" in result.output
    assert "containers were not looked at" in result.output
    assert not (dead / "environments").exists()


def test_a_dry_run_removes_nothing(dead: Path) -> None:
    result = CliRunner().invoke(app, ["--dry-run"])
    assert "2 to collect" in result.output
    assert "reclaimed" not in result.output
    assert (dead / "environments" / "abc").exists()


def test_a_plan_says_what_whose_and_how_much_of_it_and_a_total(dead: Path) -> None:
    (dead / "environments" / "abc" / "data").write_bytes(b"x" * 200_000)
    result = CliRunner().invoke(app, ["--dry-run"])
    (row,) = (line for line in result.output.splitlines() if "folder" in line)
    assert "abc" in row and "its node gone is dead" in row and "KiB" in row
    (total,) = (line for line in result.output.splitlines() if "to collect" in line)
    assert "2 to collect" in total and "KiB" in total


def test_markup_in_a_name_is_only_text(dead: Path) -> None:
    (dead / "environments" / "abc").rename(dead / "environments" / "[bold]abc")
    assert "[bold]abc" in CliRunner().invoke(app, ["--dry-run"]).output


def test_images_are_looked_at_only_with_an_engine_and_only_when_asked_for() -> None:
    result = CliRunner().invoke(app, ["--dry-run", "--images"])
    assert result.exit_code == 0 and "containers were not looked at" in result.output


def test_with_nothing_to_collect_it_says_so() -> None:
    CliRunner().invoke(app, ["--yes"])
    result = CliRunner().invoke(app, ["--yes"])
    assert "nothing to collect" in result.output
    assert result.exit_code == 0


def test_json_carries_plan_and_result(dead: Path) -> None:
    planned = json.loads(CliRunner().invoke(app, ["--json", "--dry-run"]).output)
    assert [item["kind"] for item in planned["items"]] == ["folder", "node"]
    assert "result" not in planned
    done = json.loads(CliRunner().invoke(app, ["--json"]).output)
    assert [item["kind"] for item in done["result"]["removed"]] == ["folder", "node"]
    assert not (dead / "environments").exists()


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400), ("1.5", 1.5)])
def test_ages_are_read_with_their_units(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "x", "5w", "-3s", "1h30m"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not an age"):
        seconds(text)


def test_ages_are_short() -> None:
    assert [age(n) for n in (-1, 59, 61, 7200, 200_000)] == ["0s", "59s", "1m", "2h", "2d"]
