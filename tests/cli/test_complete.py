"""Names that a shell offers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Counting
from thunderctl.cli import complete

MAIN = "import sys; sys.argv = ['thunderctl']; from thunderctl.cli.main import main; main()"


def names(offers: list[tuple[str, str]]) -> list[str]:
    return [name for name, _ in offers]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path))
    return tmp_path


def test_profiles_are_the_bundled_ones_and_the_users_own(home: Path) -> None:
    (home / "profiles").mkdir()
    (home / "profiles" / "lab.yaml").write_text("extends: laptop\ndescription: Mine.\n")
    assert names(complete.profiles("la")) == ["laptop", "laptop-pressure", "lab"]
    assert ("lab", "Mine.") in complete.profiles("")


def test_workloads_and_traces_are_those_that_are_bundled(home: Path) -> None:
    assert "swebench" in names(complete.workloads("")) and names(complete.workloads("tra")) == ["trace"]
    assert names(complete.traces("co")) == ["coding"]


def test_runs_are_offered_the_newest_first_and_ruins_are_not(home: Path) -> None:
    for name in ("20260101-000000-a", "20260102-000000-b", "20260103-000000-ruin"):
        (home / "runs" / name).mkdir(parents=True)
        if "ruin" not in name:
            (home / "runs" / name / "manifest.json").write_text(json.dumps({"kind": "replay", "policy": "thunder"}))
    assert names(complete.runs("2026")) == ["20260102-000000-b", "20260101-000000-a"]
    assert complete.runs("20260101")[0][1].startswith("replay, thunder")


def test_programs_of_a_node_that_is_up_are_offered_and_without_one_there_is_no_trouble(
    counting: Counting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("THUNDERCTL_HOME", str(counting.cli.home))
    assert complete.programs("no-such") == [] and names(complete.nodes("")) == ["default"]
    assert "daemon" in names(complete.logs(""))
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "nothing"))
    assert complete.programs("") == complete.nodes("") == complete.runs("") == []


def test_a_shell_gets_them(home: Path) -> None:
    asked = {
        "_THUNDERCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": "thunderctl doctor --profile lap",
        "COMP_CWORD": "3",
    }
    done = subprocess.run(
        [sys.executable, "-c", MAIN], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["laptop", "laptop-pressure"], done.stderr
