"""``thunderctl workload``: what is printed, and its exit codes. What it finds out is tested in ``tests/runs``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thunderctl.cli.workload import app
from thunderctl.errors import UsageError, WorkloadError

runner = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_list_tells_kinds_and_how_many_tasks_can_be_replayed() -> None:
    rows = {row["workload"]: row for row in json.loads(runner.invoke(app, ["list", "--json"]).stdout)}
    assert (
        rows["swebench"]["kind"] == "coding" and rows["swebench"]["tasks"] == rows["swebench"]["with_trajectory"] == 12
    )
    assert "traces" not in rows
    assert "swebench" in runner.invoke(app, ["list"]).stdout


def test_show_lists_tasks_with_steps_domain_and_difficulty() -> None:
    said = json.loads(runner.invoke(app, ["show", "swebench", "--json"]).stdout)
    assert said["limits"]["steps"] == 60 and len(said["tasks"]) == 12
    assert all(task["steps"] >= 12 and task["gold"] and task["domain"] for task in said["tasks"])
    assert {task["difficulty"] for task in said["tasks"]} == {"easy", "medium", "hard"}
    text = runner.invoke(app, ["show", "swebench"]).stdout
    assert all(task["task"] in text for task in said["tasks"])


def test_a_new_workload_validates_until_it_is_spoilt(home: Path) -> None:
    made = runner.invoke(app, ["new", "mine", "--kind", "coding"])
    assert made.exit_code == 0 and "thunderctl workload validate ./mine" in made.stdout
    fine = runner.invoke(app, ["validate", "./mine", "--no-replay", "--backend", "local", "--json"])
    assert fine.exit_code == 0 and json.loads(fine.stdout)["ok"] is True
    (task,) = (home / "mine" / "tasks").iterdir()
    (task / "gold.patch").unlink()
    spoilt = runner.invoke(app, ["validate", "./mine", "--no-replay", "--backend", "local"])
    assert spoilt.exit_code == 2 and "0 of 1 tasks of mine hold" in spoilt.stdout
    assert "it has no gold solution" in spoilt.output
    (task / "task.yaml").write_text("instance_id: other\n")
    assert isinstance(runner.invoke(app, ["validate", "./mine"]).exception, WorkloadError)


def test_what_cannot_be_meant_is_refused() -> None:
    assert isinstance(runner.invoke(app, ["show", "swebnch"]).exception, WorkloadError)
    assert isinstance(runner.invoke(app, ["validate", "swebench", "--filter", "x*"]).exception, UsageError)
    assert isinstance(runner.invoke(app, ["validate", "swebench", "--backend", "dokcer"]).exception, WorkloadError)


@pytest.mark.parametrize("command", ["list", "show", "validate", "record", "new"])
def test_help_has_examples_on_lines_of_their_own(command: str) -> None:
    said = runner.invoke(app, [command, "--help"])
    assert said.exit_code == 0 and "--json" in said.stdout
    assert any(line.strip().startswith(f"thunderctl workload {command}") for line in said.stdout.splitlines())
