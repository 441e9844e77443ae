"""How commands speak: errors that end with what to type, progress in the way that was chosen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commandline import CommandLine
from thunderctl import errors
from thunderctl.cli import progress, show
from thunderctl.cli.progress import ProgressMode
from thunderctl.errors import ThunderError


def every_type(base: type[ThunderError] = ThunderError) -> list[type[ThunderError]]:
    return [base, *(found for below in base.__subclasses__() for found in every_type(below))]


@pytest.mark.parametrize("kind", every_type(), ids=lambda kind: kind.__name__)
def test_every_error_ends_with_the_next_thing_to_type(
    kind: type[ThunderError], capsys: pytest.CaptureFixture[str]
) -> None:
    show.print_error(kind("it is broken"), "thunderctl env rm")
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("next: thunderctl ")


def test_a_hint_that_names_a_command_is_the_next_thing_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_error(errors.DaemonError("no node is up", hint="thunderctl up laptop"))
    assert capsys.readouterr().err.splitlines()[-1] == "hint: thunderctl up laptop"


def test_a_wrong_command_line_leads_to_the_help_of_that_very_command(tmp_path: Path) -> None:
    done = CommandLine(tmp_path).run("trace", "stats", "no-such-trace")
    assert done.returncode == 2
    assert "thunderctl trace" in done.stderr.splitlines()[-1]


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(progress, "_chosen", ProgressMode.auto)
    return monkeypatch


def said(capsys: pytest.CaptureFixture[str]) -> str:
    with show.ticker() as tell:
        tell("starting worker :smile: [red]0[/]")
        tell("starting worker :smile: [red]0[/]")
    return capsys.readouterr().err


def test_off_a_terminal_a_long_thing_is_told_once_a_change(
    chosen: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(capsys).splitlines()
    assert len(lines) == 1 and lines[0].endswith(" s  starting worker :smile: [red]0[/]")


def test_as_json_it_is_an_object_a_line(chosen: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    chosen.setattr(progress, "_chosen", ProgressMode.json)
    told = json.loads(said(capsys))
    assert set(told) == {"type", "schema", "at", "text"} and told["type"] == "status"
    assert told["text"] == "starting worker :smile: [red]0[/]"


def test_quiet_is_quiet(chosen: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    chosen.setattr(progress, "_chosen", ProgressMode.quiet)
    assert said(capsys) == ""
