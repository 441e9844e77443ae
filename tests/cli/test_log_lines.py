"""``thunderctl logs``: the right lines, whatever became of the files meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from thunderctl.cli import node
from thunderctl.cli.log_lines import LogFile
from thunderctl.errors import UsageError

TRACEBACK = [
    "2026-01-01 00:00:00,000 INFO daemon: ready",
    "2026-01-01 00:00:01,000 ERROR daemon: the node ends",
    "Traceback (most recent call last):",
    "ValueError: no",
    "2026-01-01 00:00:02,000 INFO daemon: stopped",
    '{"time": "…", "level": "warning", "component": "workers", "message": "an INFO in it"}',
    "(EngineCore pid=7) WARNING 01-01 00:00:03 [x.py:1] slow",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path))
    found = tmp_path / "nodes" / "default" / "logs"
    found.mkdir(parents=True)
    return found


def run(*args: str) -> list[str]:
    app = typer.Typer()
    app.command()(node.logs)
    done = CliRunner().invoke(app, list(args))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout.splitlines()


def test_only_lines_of_a_level_and_what_belongs_to_them_are_shown(folder: Path) -> None:
    (folder / "daemon.log").write_text("\n".join(TRACEBACK) + "\n")
    assert run("daemon", "--level", "error") == TRACEBACK[1:4]
    assert run("daemon", "--level", "warning") == [*TRACEBACK[1:4], *TRACEBACK[5:]]
    assert run("daemon", "-n", "2") == TRACEBACK[-2:]
    with pytest.raises(UsageError):
        run("daemon", "--level", "loud")


def test_lines_that_were_rotated_away_are_found(folder: Path) -> None:
    (folder / "daemon.log").write_text("five\n")
    (folder / "daemon.log.1").write_text("three\nfour\n")
    (folder / "daemon.log.2").write_text("one\ntwo\n")
    assert run("daemon", "-n", "4") == ["two", "three", "four", "five"]
    assert run("daemon", "-n", "0") == []


def test_lines_of_several_workers_say_whose_they_are(folder: Path) -> None:
    for number in range(2):
        (folder / f"worker-{number}.log").write_text(f"line {number}\n")
    assert run("worker") == ["worker-0: line 0", "worker-1: line 1"]
    with pytest.raises(UsageError) as refused:
        run("gateway")
    assert "worker-0" in str(refused.value.hint)


def test_following_goes_on_after_a_rotation_and_waits_for_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "daemon.log"
    file.write_bytes(b"one\ntw")
    log = LogFile(file)
    assert log.last(10) == ["one"]
    with file.open("ab", buffering=0) as writer:
        writer.write(b"o\nthree\n")
        assert list(log.fresh()) == ["two", "three"]
        file.write_bytes(b"")  # as a rotation leaves it
        writer.write(b"four\n")
        assert list(log.fresh()) == ["four"]
    file.unlink()
    assert list(log.fresh()) == []
