"""The bundled tasks of the heavy coding workload are what they claim to be."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from thunderctl.agents.client import Answer
from thunderctl.agents.tool_schemas import arguments_of, calls_of
from thunderctl.workload.coding import CodingTask
from thunderctl.workload.coding_tools import CodingToolsWorkload
from thunderctl.workload.load import find_workload, load_tasks, load_workload

FOLDER = find_workload("openhands")
WORKLOAD = load_workload(FOLDER)
TASKS = [task for task in load_tasks(FOLDER, WORKLOAD) if isinstance(task, CodingTask)]

_RUN = """
import io, json, sys, unittest
passed = []
for name in sys.argv[1:]:
    suite = unittest.defaultTestLoader.loadTestsFromName(name)
    result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    passed += [name] * (result.testsRun > 0 and result.wasSuccessful())
print(json.dumps(passed))
"""


def passing(repo: Path, task: CodingTask) -> set[str]:
    wanted = [*task.fail_to_pass, *task.pass_to_pass]
    done = subprocess.run(["python3", "-B", "-c", _RUN, *wanted], cwd=repo, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_with_the_light_workload_there_are_at_least_24_tasks_of_different_domains() -> None:
    light = find_workload("swebench")
    tasks = [*TASKS, *load_tasks(light, load_workload(light))]
    assert len(TASKS) >= 12 and len(tasks) >= 24
    assert len({task.domain for task in tasks}) >= 20
    assert {task.difficulty for task in TASKS} >= {"medium", "hard"}


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.instance_id)
def test_every_recorded_answer_holds_one_valid_call_and_only_the_last_one_finishes(task: CodingTask) -> None:
    assert task.trajectory is not None and 15 <= len(task.trajectory) <= 60
    names = []
    for step in task.trajectory:
        (call,) = calls_of(Answer(step.content, "stop", 1, 0, 1, 0.1, 0.0, "w", 1))
        arguments_of(call)
        names.append(call.name)
        assert (step.observation is None) == (call.name == "think")
        # Where there is no sandbox the folder for temporary files is everybody's.
        assert "/tmp" not in step.content
    assert names.index("finish") == len(names) - 1
    assert {"bash", "edit_file", "finish"} <= set(names)


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.instance_id)
def test_the_untouched_task_fails_and_the_gold_patch_passes(task: CodingTask, tmp_path: Path) -> None:
    assert task.files is not None and task.hidden is not None
    repo = Path(shutil.copytree(task.files, tmp_path / "repo"))
    shutil.copytree(task.hidden, repo, dirs_exist_ok=True)
    assert passing(repo, task) == set(task.pass_to_pass)
    subprocess.run(["git", "init", "-q"], cwd=repo, check=True)
    subprocess.run(["git", "apply", str(task.gold)], cwd=repo, check=True)
    assert passing(repo, task) == {*task.fail_to_pass, *task.pass_to_pass}


def test_the_set_up_leaves_nothing_that_git_would_hand_in(tmp_path: Path) -> None:
    assert isinstance(WORKLOAD, CodingToolsWorkload) and len(WORKLOAD.environment.setup) > 1
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    for command in WORKLOAD.environment.setup:
        subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    held = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert held > 30 << 20
    done = subprocess.run(["git", "status", "--porcelain"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == ""
