"""Workloads are read safely, and the bundled ones are what they claim to be."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from thunderctl.agents.coding import FINISH_MARKER, commands_of
from thunderctl.errors import WorkloadError
from thunderctl.workload.coding import CodingTask, load_dataset, load_task, official_image
from thunderctl.workload.load import find_workload, load_tasks, load_workload

SWEBENCH = find_workload("swebench")
TASKS = [task for task in load_tasks(SWEBENCH, load_workload(SWEBENCH)) if isinstance(task, CodingTask)]


def copy_of(task: str, to: Path) -> Path:
    return Path(shutil.copytree(SWEBENCH / "tasks" / task, to / task))


def test_at_least_twelve_tasks_of_different_domains_are_bundled() -> None:
    assert len(TASKS) >= 12
    assert len({t.problem_statement for t in TASKS}) == len(TASKS)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.instance_id)
def test_every_recorded_answer_holds_one_command_and_the_last_one_submits(task: CodingTask) -> None:
    assert task.trajectory is not None and 12 <= len(task.trajectory) <= 40
    for step in task.trajectory:
        assert len(commands_of(step.content)) == 1
    assert commands_of(task.trajectory[-1].content) == [f"echo {FINISH_MARKER} && git add -A && git diff --cached"]


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.instance_id)
def test_the_untouched_task_fails_and_the_gold_patch_passes(task: CodingTask, tmp_path: Path) -> None:
    assert task.files is not None and task.hidden is not None
    repo = Path(shutil.copytree(task.files, tmp_path / "repo"))
    shutil.copytree(task.hidden, repo, dirs_exist_ok=True)

    def passing() -> set[str]:
        script = (
            "import sys, unittest\nfor n in sys.argv[1:]:\n"
            "    s = unittest.defaultTestLoader.loadTestsFromName(n)\n"
            "    r = unittest.TextTestRunner(stream=open('/dev/null','w')).run(s)\n"
            "    print(n) if r.testsRun and r.wasSuccessful() else None\n"
        )
        wanted = [*task.fail_to_pass, *task.pass_to_pass]
        done = subprocess.run(
            ["python3", "-B", "-c", script, *wanted], cwd=repo, capture_output=True, text=True, check=True
        )
        return set(done.stdout.split())

    assert passing() == set(task.pass_to_pass)
    subprocess.run(["git", "init", "-q"], cwd=repo, check=True)
    subprocess.run(["git", "apply", str(task.gold)], cwd=repo, check=True)
    assert passing() == {*task.fail_to_pass, *task.pass_to_pass}


@pytest.mark.parametrize("name", ["../outside", "a/b", "..", "x..y", ""])
def test_a_task_whose_name_could_leave_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    folder = copy_of(TASKS[0].instance_id, tmp_path)
    meta = folder / "task.yaml"
    meta.write_text(meta.read_text().replace(f"instance_id: {TASKS[0].instance_id}", f"instance_id: {name!r}"))
    with pytest.raises(WorkloadError, match="task.yaml"):
        load_task(folder)


def test_a_task_with_a_link_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    folder = copy_of(TASKS[0].instance_id, tmp_path)
    (folder / "repo" / "sneaky").symlink_to("/etc/hostname")
    with pytest.raises(WorkloadError, match="leaves its task folder"):
        load_task(folder)


def test_a_broken_trajectory_line_is_named(tmp_path: Path) -> None:
    folder = copy_of(TASKS[0].instance_id, tmp_path)
    lines = (folder / "trajectory.jsonl").read_text().splitlines()
    lines[2] = lines[2][:20]
    (folder / "trajectory.jsonl").write_text("\n".join(lines))
    with pytest.raises(WorkloadError, match="line 3"):
        load_task(folder)


def test_an_unknown_key_of_a_workload_is_refused(tmp_path: Path) -> None:
    text = (SWEBENCH / "workload.yaml").read_text()
    (tmp_path / "workload.yaml").write_text(text + "\nextra: 1\n")
    with pytest.raises(WorkloadError, match="extra"):
        load_workload(tmp_path)


def test_an_unknown_workload_is_answered_with_those_there_are() -> None:
    with pytest.raises(WorkloadError) as caught:
        find_workload("swebnch")
    assert "swebench" in (caught.value.hint or "")


ROW = {
    "instance_id": "django__django-11099",
    "problem_statement": "It breaks.",
    "FAIL_TO_PASS": '["tests/test_a.py::test_a"]',
    "PASS_TO_PASS": "[]",
}


def rows(folder: Path, *found: dict[str, object]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n\n" for row in found))
    return file


def test_swe_bench_rows_get_their_official_images_and_are_judged_by_swebench(tmp_path: Path) -> None:
    (task,) = load_dataset(rows(tmp_path, ROW))
    assert task.image == "swebench/sweb.eval.x86_64.django_1776_django-11099:latest"
    assert official_image("Astropy__X-1") == "swebench/sweb.eval.x86_64.astropy_1776_x-1:latest"
    assert task.fail_to_pass == ["tests/test_a.py::test_a"]
    assert (task.can_be_judged, task.trajectory) == (False, None)


@pytest.mark.parametrize("key", ["image", "image_name", "docker_image"])
@pytest.mark.parametrize(
    ("test", "judged"),
    [
        ("tests/test_a.py::TestA::test_a[x y]", True),
        ("tests.test_a.TestA.test_a", True),
        ("test_a (tests.TestA)", False),
    ],
)
def test_rows_with_an_image_of_their_own_are_judged_here_if_their_tests_can_be_named(
    key: str, test: str, judged: bool, tmp_path: Path
) -> None:
    (task,) = load_dataset(rows(tmp_path, {**ROW, key: "mine/image:1", "FAIL_TO_PASS": [test]}))
    assert (task.image, task.can_be_judged) == ("mine/image:1", judged)


def test_a_row_may_bring_recorded_answers_or_name_a_file_of_them_beside_it(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('{"content": "one"}\n{"content": "two"}\n')
    found = load_dataset(
        rows(
            tmp_path,
            {**ROW, "instance_id": "a", "trajectory": "answers.jsonl"},
            {**ROW, "instance_id": "b", "trajectory": [{"content": "three"}]},
        )
    )
    assert [[step.content for step in task.trajectory or []] for task in found] == [["one", "two"], ["three"]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"problem_statement": None}, "problem_statement: input should be a valid string"),
        ({"problem_statement": ""}, "problem_statement: string should have at least 1 character"),
        ({"instance_id": 7}, "instance_id: input should be a valid string"),
        ({"instance_id": "../a"}, "instance_id '../a' cannot be used as a name"),
        ({"FAIL_TO_PASS": 3}, "FAIL_TO_PASS: input should be a valid list"),
        ({"FAIL_TO_PASS": "test_a"}, "FAIL_TO_PASS: neither a list of tests nor such a list as text"),
        ({"PASS_TO_PASS": [1]}, "PASS_TO_PASS.0: input should be a valid string"),
        ({"image": ["a"]}, "image: input should be a valid string"),
        ({"image": "import:/etc/passwd"}, "image: 'import:/etc/passwd' is no name of an image"),
        ({"trajectory": "../outside.jsonl"}, "trajectory: '../outside.jsonl' is not beside the rows"),
        ({"trajectory": "missing.jsonl"}, "trajectory: there is no file 'missing.jsonl' beside the rows"),
    ],
)
def test_a_row_that_is_no_instance_is_named_with_its_key_and_the_others_are_kept(
    change: dict[str, object], reason: str, tmp_path: Path
) -> None:
    found = load_dataset(rows(tmp_path, {**ROW, "instance_id": "first"}, {**ROW, **change}))
    assert [task.instance_id for task in found] == ["first"]
    (refused,) = found.refused
    assert refused.where == "rows.jsonl line 3" and refused.reason.startswith(reason)


def test_a_row_without_its_problem_is_refused(tmp_path: Path) -> None:
    found = load_dataset(rows(tmp_path, ROW, {"instance_id": "b"}))
    assert [str(refused) for refused in found.refused] == ["rows.jsonl line 3: b: problem_statement: field required"]
