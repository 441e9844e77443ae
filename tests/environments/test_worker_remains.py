"""Workers that outlived their daemons, and their folders for temporary files: real processes, fabricated nodes."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.environments.conftest import dead_node, live_node, record_of
from thunderctl.daemon.journal import Journal
from thunderctl.environments import cgroup
from thunderctl.environments.collector import GcPlan, carry_out, plan
from thunderctl.environments.lease import LeaseLedger
from thunderctl.environments.processes import kill_group
from thunderctl.environments.spec import Limits
from thunderctl.node import write_node
from thunderctl.workers.scratch import MARK, make_scratch

pytestmark = pytest.mark.usefixtures("no_engine")
Spawn = Callable[[Path], subprocess.Popen[bytes]]


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place of its own, with a short name: sockets are to fit in."""
    with tempfile.TemporaryDirectory(prefix="tc", dir="/tmp") as folder:  # noqa: S108
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts what stands for a worker, with its folder for temporary files."""
    started: list[subprocess.Popen[bytes]] = []

    def start(scratch: Path) -> subprocess.Popen[bytes]:
        env = {"PATH": os.environ["PATH"], "TMPDIR": str(scratch)}
        process = subprocess.Popen(["sleep", "1000"], env=env, start_new_session=True)
        started.append(process)
        while not Path(f"/proc/{process.pid}/environ").read_bytes():
            time.sleep(0.001)
        return process

    yield start
    for process in started:
        kill_group(process.pid)
        process.wait()


def scratch_of(pid: int, create_time: float = 1.0) -> Path:
    """A folder that another process made; by default one that is gone."""
    folder = make_scratch()
    said = json.loads((folder / MARK).read_text())
    (folder / MARK).write_text(json.dumps({**said, "pid": pid, "create_time": create_time}))
    (folder / "socket").write_bytes(b"x" * 50_000)
    return folder


def note_worker(node: Path, process: subprocess.Popen[bytes], scratch: Path | None) -> None:
    journal = Journal(node / "state.db", "b", 1.0, {})
    started = psutil.Process(process.pid).create_time()
    journal.note_worker("w0", process.pid, started, process.pid, str(scratch or ""))
    journal.flush()


def named(todo: GcPlan) -> list[tuple[str, str]]:
    return [(item.kind, item.id) for item in todo.items]


def test_a_dead_nodes_worker_goes_with_its_folder(spawn: Spawn) -> None:
    scratch = scratch_of(os.getpid())
    worker = spawn(scratch)
    note_worker(dead_node("gone"), worker, scratch)
    todo = plan()
    assert named(todo) == [("process", str(worker.pid)), ("scratch", str(scratch)), ("node", "gone")]
    assert {item.why for item in todo.items} == {"its node gone is dead"}
    assert todo.bytes >= 50_000
    result = carry_out(todo)
    assert [item.kind for item in result.removed] == ["process", "scratch", "node"]
    assert not scratch.exists() and not psutil.pid_exists(worker.pid)


def test_a_worker_that_nobody_wrote_down_is_found_by_its_folder(spawn: Spawn) -> None:
    scratch = scratch_of(os.getpid())
    worker = spawn(scratch)
    todo = plan()
    assert named(todo) == [("process", str(worker.pid)), ("scratch", str(scratch))]
    assert todo.items[0].why == "the process that made it is gone"
    assert [item.kind for item in carry_out(todo).removed] == ["process", "scratch"]
    assert not scratch.exists() and not psutil.pid_exists(worker.pid)


@pytest.mark.parametrize("written", [True, False], ids=["with its folder", "without its folder"])
def test_a_worker_that_the_next_daemon_took_over_is_spared(spawn: Spawn, written: bool) -> None:
    scratch = scratch_of(os.getpid())
    worker = spawn(scratch)
    note_worker(live_node("lives"), worker, scratch if written else None)
    todo = plan()
    assert todo.items == []
    assert {kept.reason for kept in todo.kept} == {"a worker of the live node lives uses it"}
    carry_out(todo)
    assert worker.poll() is None and scratch.exists()


def test_a_folder_whose_maker_lives_is_spared_though_no_ledger_names_it(spawn: Spawn) -> None:
    folder = make_scratch()
    worker = spawn(folder)
    todo = plan()
    assert todo.items == [] and "which made it, lives" in todo.kept[0].reason
    assert worker.poll() is None


def test_a_worker_taken_over_between_plan_and_removal_is_left_alone(spawn: Spawn) -> None:
    scratch = scratch_of(os.getpid())
    worker = spawn(scratch)
    folder = dead_node("back")
    note_worker(folder, worker, scratch)
    todo = plan()
    old = [item for item in todo.items if item.kind == "process"][0]
    assert old.age_s < 60
    write_node(folder, record_of(os.getpid()))  # the node was started again
    result = carry_out(todo)
    assert result.removed == []
    assert [kept.item.kind for kept in result.came_into_use] == ["process", "scratch", "node"]
    assert worker.poll() is None and scratch.exists()


def test_a_worker_of_a_node_that_came_back_is_spared_however_old_it_is(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = spawn(Path("/nowhere"))
    folder = dead_node("back")
    note_worker(folder, worker, None)
    monkeypatch.setattr("thunderctl.environments.remains.GRACE_S", 0.0)
    todo = plan()
    assert named(todo)[0] == ("process", str(worker.pid))
    write_node(folder, record_of(os.getpid()))
    assert carry_out(todo).removed == []
    assert worker.poll() is None


def test_a_folder_in_which_somebody_still_works_is_left_alone(spawn: Spawn) -> None:
    scratch = scratch_of(os.getpid())
    todo = plan()
    assert named(todo) == [("scratch", str(scratch))]
    late = spawn(scratch)
    (kept,) = carry_out(todo).came_into_use
    assert kept.reason == f"the process {late.pid} uses it"
    assert scratch.exists()


def test_folders_that_are_not_ours_are_not_even_mentioned(temporary: Path) -> None:
    for name, owner in (("thunderctl-foreign1", "somebody-else"), ("thunderctl-unmarked", None)):
        (temporary / name).mkdir()
        if owner is not None:
            (temporary / name / MARK).write_text(json.dumps({"owner": owner, "pid": 1, "create_time": 1.0}))
    todo = plan()
    assert todo.items == [] and todo.kept == []


def test_a_control_group_whose_folder_is_gone_is_collected_and_a_foreign_one_is_not(home: Path) -> None:
    places = cgroup.permitted()
    if not places.limited:
        pytest.skip("no control groups can be made here")
    folder = dead_node("gone")
    ledger = LeaseLedger(folder / "state.db")
    lease = ledger.open("p", "r", "local")
    ledger.close()
    foreign = "f" * 16
    try:
        for name in (lease.id, foreign):
            places.join_files(name, Limits())
        assert {lease.id, foreign} <= set(cgroup.left())
        todo = plan()
        assert named(todo) == [("cgroup", lease.id), ("node", "gone")]
        assert [item.kind for item in carry_out(todo).removed] == ["cgroup", "node"]
        assert lease.id not in cgroup.left() and foreign in cgroup.left()
    finally:
        cgroup.end_lease(lease.id)
        cgroup.end_lease(foreign)
