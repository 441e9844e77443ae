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


def test_swe_bench_rows_get_their_official_images(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    row = {
        "instance_id": "django__django-11099",
        "problem_statement": "It breaks.",
        "FAIL_TO_PASS": '["test_a"]',
        "PASS_TO_PASS": "[]",
    }
    rows.write_text(json.dumps(row) + "\n\n")
    (task,) = load_dataset(rows)
    assert task.image == "swebench/sweb.eval.x86_64.django_1776_django-11099:latest"
    assert official_image("Astropy__X-1") == "swebench/sweb.eval.x86_64.astropy_1776_x-1:latest"
    assert (task.fail_to_pass, task.can_be_judged, task.trajectory) == (["test_a"], False, None)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON"),
        ('{"instance_id": "a"}', "problem_statement"),
        ('{"instance_id": "../a", "problem_statement": ""}', "instance_id"),
    ],
)
def test_a_row_that_is_no_instance_is_named_by_its_line(line: str, reason: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instance_id": "ok__ok-1", "problem_statement": ""}\n' + line + "\n")
    with pytest.raises(WorkloadError, match=f"line 2.*{reason}"):
        load_dataset(rows)
