"""``rollout check``, ``convert`` and ``schema``, on folders as roll-outs write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.rollouts.seeded_groups import seeded_group
from thunderctl.cli.main import app
from thunderctl.errors import UsageError
from thunderctl.rollouts.convert import CONVERTERS, to_verl
from thunderctl.rollouts.files import COLUMNS, GroupFiles
from thunderctl.rollouts.schema import Group, Sample
from thunderctl.workload.load import find_workload, load_tasks, load_workload


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    files = GroupFiles(tmp_path / "out")
    files.write_manifest({"workload": "hle-routing"})
    for number in range(3):
        files.write(seeded_group(f"g{number}", number))
    return files.folder


def test_a_roll_out_that_holds_is_counted_and_passes(folder: Path) -> None:
    done = CliRunner().invoke(app, ["rollout", "check", str(folder)])
    assert done.exit_code == 0, done.output
    assert "every promise holds" in done.stdout
    assert "60, of these 60 with their prompt proved token by token" in done.stdout
    told = json.loads(CliRunner().invoke(app, ["rollout", "check", str(folder), "--json"]).stdout)
    assert told["ok"] is True and told["calls"] == 60 and told["rewards"] is None


def test_what_does_not_hold_is_named_and_the_exit_code_is_one(folder: Path) -> None:
    group = seeded_group("g9", 9)
    group.samples[2].segments[0].mask[45] = 0
    GroupFiles(folder).write(group)
    done = CliRunner().invoke(app, ["rollout", "check", str(folder)])
    assert done.exit_code == 1
    assert "not every promise holds" in done.stdout
    wanted = "groups-jsonl/00003-g9.jsonl: group g9, sample 2, segment 0, step 1: token 45: mask 0"
    assert wanted in done.stderr
    done = CliRunner().invoke(app, ["rollout", "check", str(folder), "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == 1 and told["ok"] is False and told["violations"][0]["sample"] == 2


def test_rewards_that_nobody_earned_are_found_out(folder: Path) -> None:
    place = find_workload("hle-routing")
    task = load_tasks(place, load_workload(place))[0]
    files = GroupFiles(folder.parent / "answers")
    files.write_manifest({"workload": "hle-routing"})
    samples = [
        Sample(task.instance_id, "g", index, 1, f"p{index}", "live", "submitted", reward, submission="no idea at all")
        for index, reward in enumerate((0.0, 1.0))
    ]
    files.write(Group("g", task.instance_id, samples))
    done = CliRunner().invoke(app, ["rollout", "check", str(files.folder), "--rewards", "--backend", "local", "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == 1 and told["ok"] is False and told["violations"] == []
    assert [(each["stored"], each["again"]) for each in told["rewards"]] == [(0.0, 0.0), (1.0, 0.0)]
    done = CliRunner().invoke(app, ["rollout", "check", str(files.folder), "--rewards", "--backend", "local"])
    assert "reward: group g, sample 1: stored 1.0, judged again 0.0" in done.stderr


@pytest.mark.parametrize("trainer", sorted(CONVERTERS))
def test_what_a_trainer_takes_is_written_as_json(folder: Path, trainer: str) -> None:
    into = folder.parent / "for" / "trainer.json"
    done = CliRunner().invoke(app, ["rollout", "convert", str(folder), "--to", trainer, "--out", str(into)])
    assert done.exit_code == 0, done.output
    assert json.loads(into.read_text()) == CONVERTERS[trainer](GroupFiles(folder).read())
    assert f"{trainer}: 12 samples of 3 groups" in done.stderr and "0 of them say nothing" in done.stderr


def test_padding_is_for_verl_only(folder: Path) -> None:
    into = folder.parent / "verl.json"
    sizes = ["--pad-id", "3", "--prompt-length", "64", "--response-length", "512", "--out", str(into)]
    done = CliRunner().invoke(app, ["rollout", "convert", str(folder), "--to", "verl", *sizes])
    assert done.exit_code == 0, done.output
    wanted = to_verl(GroupFiles(folder).read(), pad_id=3, prompt_length=64, response_length=512)
    assert json.loads(into.read_text()) == wanted
    done = CliRunner().invoke(app, ["rollout", "convert", str(folder), "--to", "trl", *sizes])
    assert isinstance(done.exception, UsageError) and "--pad-id is about verl" in done.exception.message


def test_a_number_that_is_not_finite_is_not_written(folder: Path) -> None:
    group = seeded_group("g9", 9)
    group.samples[0].reward = float("nan")
    GroupFiles(folder).write(group)
    into = folder.parent / "slime.json"
    done = CliRunner().invoke(app, ["rollout", "convert", str(folder), "--to", "slime", "--out", str(into)])
    assert isinstance(done.exception, UsageError) and "rollout check" in (done.exception.hint or "")
    assert not into.exists()


def test_the_layout_is_printed(folder: Path) -> None:
    done = CliRunner().invoke(app, ["rollout", "schema"])
    assert done.exit_code == 0 and all(column.about in done.stdout for column in COLUMNS)
