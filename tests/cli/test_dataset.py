"""``--dataset`` as a person meets it: rows of one's own, in images of one's own."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.bundled import bundled_task
from tests.commandline import ENGINE, CommandLine
from tests.official import swebench_python
from thunderctl.cli.dataset import absolute, called, load_dataset
from thunderctl.environments.docker import connect
from thunderctl.environments.images import BASE, Images
from thunderctl.errors import WorkloadError
from thunderctl.workload.coding import CodingTask
from thunderctl.workload.kinds import KINDS

TASK = "fieldpress__cut-in-quotes-1590"
IMAGE = "thunderctl-test/row:1"
NOWHERE = "127.0.0.1:9/nobody/nothing:1"


def test_patch(task: CodingTask, folder: Path) -> str:
    """What makes the hidden tests of the repository, as a row has it."""
    assert task.files is not None and task.hidden is not None
    script = (
        f"rm -rf repo && cp -r {task.files} repo && cd repo && git init -q && git add -A && {COMMIT} && "
        f"cp -r {task.hidden}/. . && git add -A && git diff --cached"
    )
    return subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, check=True).stdout


COMMIT = "git -c user.name=a -c user.email=a@localhost commit -qm before"
test_patch.__test__ = False  # type: ignore[attr-defined]


def eval_script(task: CodingTask, folder: Path) -> str:
    """How swebench runs the tests, in the form that official rows have it."""
    names = " ".join([*task.fail_to_pass, *task.pass_to_pass])
    return (
        # One stream: of two, what stands between swebench's marks may arrive after the last of them.
        "#!/bin/bash\nexec 2>&1\nset -uxo pipefail\ncd /testbed\n"
        f"git apply - <<'END_OF_TESTS'\n{test_patch(task, folder)}END_OF_TESTS\n"
        ": '>>>>> Start Test Output'\n"
        f"for t in {names}; do python3 -m unittest -q $t && echo PASSED $t || echo FAILED $t; done\n"
        ": '>>>>> End Test Output'\n"
    )


def build(engine: docker.DockerClient, files: Path) -> None:
    """``IMAGE``: the repository at /testbed, as the official images have it; nothing comes from a registry."""
    Images(engine).ensure(BASE)
    recipe = f"FROM {BASE}\nCOPY repo /testbed\nRUN cd /testbed && git init -q && git add -A && {COMMIT}\n".encode()
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        about = tarfile.TarInfo("Dockerfile")
        about.size = len(recipe)
        tar.addfile(about, io.BytesIO(recipe))
        tar.add(files, "repo")
    context.seek(0)
    engine.images.build(fileobj=context, custom_context=True, tag=IMAGE, rm=True, forcerm=True)


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Path]:
    """A good row, three that are none, and one whose image nobody has."""
    task = bundled_task(TASK)
    assert task.files is not None and task.folder is not None
    (tmp_path / "recorded.jsonl").write_bytes((task.folder / "trajectory.jsonl").read_bytes())
    row: dict[str, Any] = {
        "instance_id": "mine__fieldpress-1",
        "repo": "mine/fieldpress",
        "problem_statement": task.problem_statement,
        "test_patch": test_patch(task, tmp_path),
        "FAIL_TO_PASS": json.dumps(task.fail_to_pass),
        "PASS_TO_PASS": json.dumps(task.pass_to_pass),
        "image_name": IMAGE,
        "trajectory": "recorded.jsonl",
        "eval_script": eval_script(task, tmp_path),
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
        "version": "1",
    }
    without = {key: value for key, value in row.items() if key != "problem_statement"}
    found = [
        row,
        {**without, "instance_id": "mine__missing-2"},
        {**row, "instance_id": "mine__type-3", "FAIL_TO_PASS": 3},
        {**row, "instance_id": "mine__image-4", "image_name": NOWHERE},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in found) + '{"instance_id"\n')
    engine = connect()
    build(engine, task.files)
    yield file
    engine.images.remove(IMAGE, force=True)
    engine.close()


def some_rows(folder: Path) -> Path:
    file = folder / "some.jsonl"
    good = {"instance_id": "a__a-1", "problem_statement": "p"}
    replayed = {**good, "instance_id": "b__b-2", "trajectory": [{"content": "x"}]}
    file.write_text("".join(json.dumps(row) + "\n" for row in (good, replayed, {"instance_id": "c__c-3"})))
    return file


def test_rows_that_cannot_be_used_are_told_once_and_the_others_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(some_rows(tmp_path))
    for _ in range(2):  # compare makes a plan for each arm
        found = load_dataset(KINDS["coding"], source)
        assert [task.instance_id for task in found] == ["a__a-1", "b__b-2"]
    said = capsys.readouterr().err
    assert said.count("some.jsonl: 1 of 3 rows cannot be used; the others are used") == 1
    assert said.count("some.jsonl line 3: c__c-3: problem_statement: field required") == 1


def test_a_replay_takes_the_rows_that_have_recorded_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = load_dataset(KINDS["coding"], str(some_rows(tmp_path)), live=False)
    assert [task.instance_id for task in found] == ["b__b-2"] and len(found.refused) == 2
    assert "some.jsonl: a__a-1: no recorded answers, and others have some" in capsys.readouterr().err
    (tmp_path / "live.jsonl").write_text('{"instance_id": "a", "problem_statement": "p"}\n')
    assert len(load_dataset(KINDS["coding"], str(tmp_path / "live.jsonl"), live=False)) == 1


def test_whoever_is_strict_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="1 of 3 rows cannot be used") as caught:
        load_dataset(KINDS["coding"], str(some_rows(tmp_path)), strict=True)
    assert caught.value.details == ["some.jsonl line 3: c__c-3: problem_statement: field required"]


def test_a_file_is_found_again_from_elsewhere_and_a_name_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = some_rows(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert (absolute("some.jsonl"), called("some.jsonl")) == (str(file), "some.jsonl")
    assert (absolute("owner/name:dev"), called("owner/name:dev")) == ("owner/name:dev", "owner/name:dev")


REASONS = [
    "rows.jsonl line 2: mine__missing-2: problem_statement: field required",
    "rows.jsonl line 3: mine__type-3: FAIL_TO_PASS: input should be a valid list",
    "rows.jsonl line 5: not valid JSON: expecting ':' delimiter at column 15",
]


@pytest.mark.engine
@pytest.mark.docker
def test_rows_made_by_hand_run_in_an_image_built_here_and_bad_ones_stop_nothing(cli: CommandLine, rows: Path) -> None:
    strict = cli.run("run", "swebench", "--dataset", str(rows), "--strict")
    assert strict.returncode == 2 and all(reason in strict.stderr for reason in REASONS)
    done = cli.run(
        "run", "swebench", "-p", "laptop", *ENGINE, "-c", "environments.backend=docker",
        "--dataset", str(rows), "--agents", "2", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "rows.jsonl: 3 of 5 rows cannot be used; the others are used" in done.stderr
    assert all(reason in done.stderr for reason in REASONS)
    summary = json.loads(done.stdout)
    folder = Path(summary["folder"])
    assert summary["agents"]["by_status"] == {"submitted": 1, "failed": 1}
    assert summary["agents"]["resolved"] == 1
    assert summary["kind"] == "replay" and summary["tasks_are"].startswith("official rows given by the user")
    ended = {r["instance_id"]: r for r in map(json.loads, (folder / "rollouts.jsonl").read_text().splitlines())}
    assert NOWHERE in ended["mine__image-4"]["error"] and ended["mine__image-4"]["image_missing"]
    assert set(ended["mine__fieldpress-1"]["parts"]) == {
        *bundled_task(TASK).fail_to_pass,
        *bundled_task(TASK).pass_to_pass,
    }
    refused = json.loads((folder / "manifest.json").read_text())["rows_refused"]
    assert [each["instance_id"] for each in refused] == ["mine__missing-2", "mine__type-3", None]
    (prediction,) = json.loads((folder / "preds.json").read_text()).values()
    assert prediction["instance_id"] == "mine__fieldpress-1" and prediction["model_patch"].startswith("diff --git")
    assert cli.nothing_runs()

    evaluated = cli.json("evaluate", "--python", str(swebench_python()))
    assert (evaluated["by"][:8], evaluated["resolved"], evaluated["not_evaluated"]) == ("swebench", 1, {})
    assert cli.json("report")["agents"]["resolved"] == 1
