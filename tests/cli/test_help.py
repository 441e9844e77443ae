"""Every command is in its place, says what it does, and shows two command lines that it would take."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from typer.main import get_command

from tests.commandline import CommandLine
from thunderctl.cli.docs import Command, commands, understand
from thunderctl.cli.main import PANELS, app

ALL = list(commands(app))
ROOT: Any = get_command(app)


def taken(line: str) -> None:
    """Parse the options of a command line as the command would; it raises what the command would."""
    command = ROOT
    words = shlex.split(line)
    words = words[1 : words.index("|") if "|" in words else None]
    path = "thunderctl"
    while hasattr(command, "commands"):
        path, command = f"{path} {words[0]}", command.commands[words.pop(0)]
    command.make_parser(command.context_class(command, info_name=path)).parse_args(words)


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.path)
def test_a_command_has_two_examples_of_its_own_that_it_would_take(command: Command) -> None:
    assert len(command.said.examples) >= 2, command.path
    for line in command.said.examples:
        assert line.startswith(f"{command.path} ") or line == command.path
        taken(line)


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.path)
def test_a_command_says_what_it_does_and_what_each_option_means(command: Command) -> None:
    assert command.said.first_sentence
    silent = [declared for declared, text, _ in command.options if not text]
    assert silent == []


def test_an_example_with_an_option_that_does_not_exist_would_be_found() -> None:
    with pytest.raises(Exception, match="no-such-option"):
        taken("thunderctl run swebench --no-such-option")


def test_every_command_stands_under_a_heading() -> None:
    registered = {info.name for info in (*app.registered_commands, *app.registered_groups)}
    assert registered <= {name for names in PANELS.values() for name in names}


def test_help_groups_commands_and_keeps_examples_on_lines_of_their_own(tmp_path: object) -> None:
    cli = CommandLine(tmp_path)  # type: ignore[arg-type]
    shown = cli.run("--help").stdout
    places = [shown.index(title) for title in PANELS]
    assert places == sorted(places)
    assert shown.index(" run ") < places[1] < shown.index(" up ")
    lines = [line.strip() for line in cli.run("up", "--help").stdout.splitlines()]
    assert "thunderctl up" in lines and "thunderctl up h100x8 --dry-run" in lines


def test_what_follows_the_examples_is_prose_again() -> None:
    said = understand("Do it. And more.\n\n    Example:\n\n        thunderctl do\n\n    Afterwards.\n    ")
    assert said.examples == ("thunderctl do",) and said.prose == "Do it. And more.\n\nAfterwards."
    assert said.first_sentence == "Do it"
