"""A workload is valid if its tasks can be solved and are not solved already; a recording tells later what drifted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from thunderctl.environments.images import BASE
from thunderctl.errors import UsageError, WorkloadError
from thunderctl.profile import ToolEnvironmentSpec
from thunderctl.runs.record import agreed, record_tasks
from thunderctl.runs.validate import Finding, check_tasks
from thunderctl.workload.files import RecordedObservation
from thunderctl.workload.load import find_workload, list_workloads, load_tasks, load_workload
from thunderctl.workload.skeleton import new_workload

LOCAL = ToolEnvironmentSpec(backend="local")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    assert new_workload(folder, "coding") == "swebench"
    return folder


def task_folder(workload: Path) -> Path:
    (found,) = (workload / "tasks").iterdir()
    return found


async def check(folder: Path, *, replay: bool = False) -> Finding:
    workload = load_workload(folder)
    (found,) = await check_tasks(
        workload, load_tasks(folder, workload), LOCAL, replay=replay, progress=lambda line: None
    )
    return found


async def test_a_new_workload_is_valid_and_leaves_nothing_behind(mine: Path, home: Path) -> None:
    assert load_workload(mine).name == "mine"
    found = await check(mine)
    assert found.problems == [] and found.gold_passes is found.untouched_fails is True
    assert list((home / "nodes").iterdir()) == []


def rewritten(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def apply(task: Path) -> None:
        (task / name).write_text(change((task / name).read_text()))

    return apply


def all_pass_before(text: str) -> str:
    """The first test that is to pass afterwards is one that passes already."""
    passing = re.search(r"PASS_TO_PASS:\n\s+- (\S+)", text)
    assert passing is not None
    return re.sub(r"(FAIL_TO_PASS:\n\s+- )\S+", lambda m: m[1] + passing[1], text)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda task: (task / "gold.patch").unlink(), "it has no gold solution"),
        (rewritten("gold.patch", lambda text: text.replace("+++ b/", "+++ b/gone/")), "gold solution does not pass"),
        (rewritten("task.yaml", all_pass_before), "FAIL_TO_PASS"),
        (rewritten("task.yaml", lambda text: re.sub(r"(PASS_TO_PASS:\n\s+- \S+)", r"\1.not", text)), "PASS_TO_PASS"),
    ],
)
async def test_a_task_that_does_not_hold_is_told_by_name(
    mine: Path, spoil: Callable[[Path], None], problem: str
) -> None:
    spoil(task_folder(mine))
    found = await check(mine)
    assert any(problem in said for said in found.problems), found.problems


async def test_a_replay_that_returns_something_else_than_recorded_has_drifted(mine: Path) -> None:
    file = task_folder(mine) / "trajectory.jsonl"
    steps = [json.loads(line) for line in file.read_text().splitlines()]
    steps[1]["observation"]["returncode"] += 1
    file.write_text("".join(json.dumps(step) + "\n" for step in steps))
    found = await check(mine, replay=True)
    assert found.drifted == 1 and found.replay_passes is True


async def test_recording_writes_what_commands_return_and_leaves_the_answers(mine: Path) -> None:
    file = task_folder(mine) / "trajectory.jsonl"
    before = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({"content": step["content"]}) + "\n" for step in before))
    workload = load_workload(mine)
    (told,) = await record_tasks(workload, load_tasks(mine, workload), LOCAL, lambda line: None)
    after = [json.loads(line) for line in file.read_text().splitlines()]
    assert [s["content"] for s in after] == [s["content"] for s in before]
    assert all("returncode" in s["observation"] for s in after)
    assert (told.steps, told.codes, told.unstable) == (len(after), len(after), [])
    assert told.digests == sum("digest" in s["observation"] for s in after) > 0


async def test_a_trajectory_that_breaks_off_is_not_recorded(mine: Path) -> None:
    file = task_folder(mine) / "trajectory.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[-1], *lines[:-1]]))
    workload, text = load_workload(mine), file.read_text()
    with pytest.raises(WorkloadError, match="ended with 'submitted' after 1"):
        await record_tasks(workload, load_tasks(mine, workload), LOCAL, lambda line: None)
    assert file.read_text() == text


def test_only_what_two_runs_agree_on_and_no_machine_words_is_recorded() -> None:
    step = {"returncode": 0, "digest": "a", "observation": "all well"}
    assert agreed(step, step) == RecordedObservation(returncode=0, digest="a")
    assert agreed(step, {**step, "digest": "b"}) == RecordedObservation(returncode=0)
    assert agreed(step, {**step, "returncode": 1}) is None
    assert agreed({"observation": "no tool ran"}, step) is None
    for text in ("Ran 3 tests in 0.002s", "drwxr-xr-x 2 me me 40 Jan 1 src", "total 16", "at 0x7f0012345678", "10:42"):
        shown = {**step, "observation": text}
        assert agreed(shown, shown) == RecordedObservation(returncode=0), text


def test_a_workload_is_begun_where_nothing_is_and_of_a_kind_that_there_is(tmp_path: Path, mine: Path) -> None:
    with pytest.raises(UsageError, match="exists already"):
        new_workload(mine, "coding")
    with pytest.raises(UsageError, match="no kind 'codng'"):
        new_workload(tmp_path / "other", "codng")
    with pytest.raises(UsageError, match="cannot be used as a name"):
        new_workload(tmp_path / "..", "coding")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine"]


def bundled() -> Iterator[Any]:
    """Each workload. One whose environment has libraries of its own wants Docker; so does one with a long set-up,
    which Docker does once and not for every environment."""
    for name in list_workloads():
        said = load_workload(find_workload(name)).environment
        plain = said.image in (None, BASE) and not said.setup
        yield pytest.param(name, marks=[] if plain else [pytest.mark.docker])


@pytest.mark.parametrize("name", list(bundled()))
async def test_every_bundled_task_can_be_solved_and_is_not_solved_already(
    name: str, request: pytest.FixtureRequest
) -> None:
    folder = find_workload(name)
    workload = load_workload(folder)
    docker = request.node.get_closest_marker("docker") is not None
    settings = ToolEnvironmentSpec(backend="docker" if docker else "local")
    found = await check_tasks(
        workload, load_tasks(folder, workload), settings, replay=False, progress=lambda line: None
    )
    assert {each.instance_id: each.problems for each in found if each.problems} == {}
