"""Collection on this machine's own disk and processes: fabricated nodes, real folders, real processes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import thunderctl
from tests.environments.conftest import dead_node, live_node, record_of
from thunderctl.environments import removal
from thunderctl.environments.collector import GcPlan, carry_out, plan
from thunderctl.environments.lease import Lease, LeaseLedger, State
from thunderctl.environments.local import remove_folder
from thunderctl.environments.processes import kill_group, marked
from thunderctl.node import write_node

pytestmark = pytest.mark.usefixtures("no_engine")
Spawn = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*argv: str, lease: str | None = None) -> subprocess.Popen[bytes]:
        env = {"PATH": os.environ["PATH"], **({"THUNDERCTL_LEASE": lease} if lease else {})}
        process = subprocess.Popen(argv, env=env, start_new_session=True, stdout=subprocess.DEVNULL)
        started.append(process)
        while not Path(f"/proc/{process.pid}/environ").read_bytes():
            time.sleep(0.001)  # the kernel shows no environment until exec is through
        return process

    yield start
    for process in started:
        kill_group(process.pid)
        process.wait()


def lease_in(folder: Path, *states: State, run: str = "r") -> Lease:
    """A lease that went through ``states``, with a folder of 100 kB."""
    ledger = LeaseLedger(folder / "state.db")
    lease = ledger.open("p", run, "local")
    for state in states:
        ledger.move(lease.id, state)
    ledger.close()
    place = folder / "environments" / lease.id
    place.mkdir(parents=True)
    (place / "data").write_bytes(b"x" * 100_000)
    return lease


def make_old(folder: Path, seconds: float = 3600) -> None:
    """Turn the clock of every lease of a node back."""
    with sqlite3.connect(folder / "state.db") as db:
        db.execute("UPDATE leases SET created = created - ?, updated = updated - ?", (seconds, seconds))
    db.close()


def record_process(folder: Path, process: subprocess.Popen[bytes], *, started: float | None = None) -> None:
    created = psutil.Process(process.pid).create_time() if started is None else started
    with sqlite3.connect(folder / "state.db") as db:
        db.execute(
            "CREATE TABLE IF NOT EXISTS processes (pid INTEGER, create_time REAL, pgid INTEGER, kind TEXT, name TEXT)"
        )
        db.execute("INSERT INTO processes VALUES (?,?,?,?,?)", (process.pid, created, process.pid, "worker", "w0"))
    db.close()


def kinds(todo: GcPlan) -> list[str]:
    return [item.kind for item in todo.items]


def test_an_empty_home_has_nothing_to_collect() -> None:
    todo = plan()
    assert todo.items == []
    assert todo.kept == []
    assert todo.notes and "containers were not looked at" in todo.notes[0]
    assert carry_out(todo).removed == []


def test_what_a_dead_node_left_goes_without_grace_and_its_log_stays(spawn: Spawn) -> None:
    folder = dead_node("gone")
    (folder / "daemon.log").write_text("last words\n")
    lease = lease_in(folder, "preparing", "ready")
    tool = spawn("sleep", "1000", lease=lease.id)
    todo = plan()
    assert kinds(todo) == ["process", "folder", "node"]
    assert todo.bytes >= 100_000
    assert all(item.why == "its node gone is dead" for item in todo.items)
    result = carry_out(todo)
    assert [item.kind for item in result.removed] == ["process", "folder", "node"]
    assert result.failed == result.came_into_use == []
    assert not psutil.pid_exists(tool.pid)
    assert sorted(file.name for file in folder.iterdir() if not file.name.startswith("state")) == ["daemon.log"]
    assert LeaseLedger(folder / "state.db").get(lease.id).state == "reclaimed"


def test_a_second_collection_finds_nothing() -> None:
    lease_in(dead_node("gone"), "preparing")
    carry_out(plan())
    assert plan().items == []


def test_a_live_nodes_active_lease_is_never_touched_however_old(spawn: Spawn) -> None:
    folder = live_node("lives")
    lease = lease_in(folder, "preparing", "ready", "in_use")
    make_old(folder)
    tool = spawn("sleep", "1000", lease=lease.id)
    todo = plan()
    assert todo.items == []
    assert {kept.reason for kept in todo.kept} == {"leased by the live node lives"}
    carry_out(todo)
    assert tool.poll() is None
    assert (folder / "environments" / lease.id / "data").exists()


@pytest.mark.parametrize("states", [("reclaimed",), ("preparing", "failed")])
def test_a_live_nodes_finished_lease_is_collected_once_older_than_the_grace(states: tuple[State, ...]) -> None:
    folder = live_node("lives")
    lease_in(folder, *states)
    assert plan().items == []
    assert "younger than 60 s" in plan().kept[0].reason
    make_old(folder)
    assert kinds(plan()) == ["folder"]
    assert len(carry_out(plan()).removed) == 1


def test_a_live_node_whose_ledger_cannot_be_read_loses_nothing() -> None:
    folder = live_node("lives")
    lease_in(folder, "preparing", "failed")
    make_old(folder)
    for file in folder.glob("state.db*"):
        file.unlink()
    (folder / "state.db").write_bytes(b"this is not a database" * 100)
    os.utime(next((folder / "environments").iterdir()), (1, 1))
    todo = plan()
    assert todo.items == []
    assert "cannot be read" in todo.kept[0].reason


def test_a_folder_whose_node_has_no_record_waits_for_the_grace() -> None:
    folder = dead_node("odd")
    lease_in(folder, "preparing")
    (folder / "node.json").unlink()
    assert plan().items == []
    make_old(folder)
    assert kinds(plan()) == ["folder"]


def test_a_process_with_somebody_elses_lease_is_not_ours_to_end(spawn: Spawn) -> None:
    dead_node("gone")
    foreign = spawn("sleep", "1000", lease="0123456789abcdef")
    carry_out(plan())
    assert foreign.poll() is None


def test_a_dead_nodes_worker_ends_with_its_children(spawn: Spawn) -> None:
    folder = dead_node("gone")
    worker = spawn("bash", "-c", "sleep 1001 & sleep 1001 & wait")
    record_process(folder, worker)
    children = wait_for_children(worker.pid)
    threading.Thread(target=worker.wait, daemon=True).start()
    result = carry_out(plan())
    assert [item.name for item in result.removed if item.kind == "process"] == ["worker w0"]
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def test_a_dead_workers_children_are_found_by_their_group(spawn: Spawn) -> None:
    folder = dead_node("gone")
    worker = spawn("bash", "-c", "sleep 1002 & wait")
    record_process(folder, worker)
    (child,) = wait_for_children(worker.pid)
    os.kill(worker.pid, 9)
    worker.wait()
    assert child.is_running()
    assert kinds(plan()) == ["process", "node"]
    carry_out(plan())
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def child_env() -> dict[str, str]:
    """For a daemon of our own in another process: this very package, installed or not."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(thunderctl.__file__).parent.parent), *sys.path])}


def wait_for_children(pid: int) -> list[psutil.Process]:
    while True:
        children = psutil.Process(pid).children()
        if children and all(child.name() == "sleep" for child in children):
            return children
        time.sleep(0.01)


def test_a_recorded_pid_that_another_process_has_now_is_spared(spawn: Spawn) -> None:
    folder = dead_node("gone")
    innocent = spawn("sleep", "1000")
    record_process(folder, innocent, started=time.time() - 5000)
    assert kinds(plan()) == ["node"]
    carry_out(plan())
    assert innocent.poll() is None


def test_a_live_nodes_workers_are_spared(spawn: Spawn) -> None:
    folder = live_node("lives")
    worker = spawn("sleep", "1000")
    record_process(folder, worker)
    assert plan().items == []


def test_what_came_into_use_after_the_plan_is_left_alone(spawn: Spawn) -> None:
    folder = dead_node("back")
    lease = lease_in(folder, "preparing", "ready")
    tool = spawn("sleep", "1000", lease=lease.id)
    todo = plan()
    write_node(folder, record_of(os.getpid()))  # the node was started again
    result = carry_out(todo)
    assert result.removed == []
    assert [kept.item.kind for kept in result.came_into_use] == ["process", "folder", "node"]
    assert tool.poll() is None
    assert (folder / "node.json").exists()


def test_a_run_narrows_the_plan_down_and_the_nodes_record_waits_for_the_rest() -> None:
    folder = dead_node("gone")
    lease_in(folder, "preparing", run="one")
    lease_in(folder, "preparing", run="two")
    todo = plan(run="one")
    assert [(item.kind, item.run) for item in todo.items] == [("folder", "one")]
    carry_out(todo)
    assert (folder / "node.json").exists()
    assert kinds(plan()) == ["folder", "node"]


def test_an_age_narrows_the_plan_down() -> None:
    folder = dead_node("gone")
    lease_in(folder, "preparing")
    todo = plan(older_than_s=1800)
    assert todo.items == []
    make_old(folder)
    assert kinds(plan(older_than_s=1800)) == ["folder", "node"]


def test_a_dead_nodes_record_stays_while_it_may_have_containers_that_cannot_be_seen() -> None:
    folder = dead_node("gone")
    ledger = LeaseLedger(folder / "state.db")
    ledger.open("p", "r", "docker")
    ledger.close()
    todo = plan()
    assert todo.items == []
    assert "no Docker engine answers" in todo.kept[0].reason


def test_two_collectors_at_once_remove_everything_once() -> None:
    folder = dead_node("gone")
    for _ in range(20):
        lease_in(folder, "preparing")
    todo = plan()
    results = []
    both = [threading.Thread(target=lambda: results.append(carry_out(todo))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert [kept for result in results for kept in result.failed] == []
    assert list((folder / "environments").glob("*")) == []
    assert plan().items == []


def test_a_daemon_killed_in_the_middle_of_its_work_leaves_nothing_after_a_collection(
    tmp_path: Path, home: Path
) -> None:
    script = tmp_path / "daemon.py"
    script.write_text(KILLED_DAEMON)
    daemon = subprocess.Popen([sys.executable, str(script), "local"], stdout=subprocess.PIPE, env=child_env())
    assert daemon.stdout is not None
    lease = daemon.stdout.readline().decode().strip()
    assert plan().items == []
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()
    result = carry_out(plan())
    assert {"folder", "node"} <= {item.kind for item in result.removed}
    assert not (home / "nodes" / "n1" / "environments" / lease).exists()
    assert [pid for pid, whose in marked() if whose == lease] == []
    assert plan().items == []


def test_a_process_that_shows_up_while_its_node_is_collected_goes_with_it(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_in(dead_node("gone"), "preparing", "ready")
    late: list[subprocess.Popen[bytes]] = []

    def remove_and_spawn(folder: Path, lease_id: str) -> None:
        remove_folder(folder, lease_id)
        late.append(spawn("sleep", "1000", lease=lease_id))

    monkeypatch.setattr(removal, "remove_folder", remove_and_spawn)
    result = carry_out(plan())
    assert [item.kind for item in result.removed] == ["folder", "process", "node"]
    assert not psutil.pid_exists(late[0].pid)


KILLED_DAEMON = """
import asyncio, os, sys
import psutil
from thunderctl import paths
from thunderctl.environments.lease import LeaseLedger
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.environments.spec import EnvironmentSpec
from thunderctl.node import NodeRecord, write_node
from thunderctl.profile import ToolEnvironmentSpec

async def main():
    folder = paths.nodes() / "n1"
    write_node(folder, NodeRecord(os.getpid(), psutil.Process().create_time(), "", "p", "d", 0.0))
    settings = ToolEnvironmentSpec(backend=sys.argv[1])
    manager = EnvironmentManager(settings, LeaseLedger(folder / "state.db"), folder, "n1")
    await manager.start()
    lease = await manager.request("p", "r", EnvironmentSpec())
    print(lease.id, flush=True)
    await manager.execute(lease.id, "setsid sleep 1003 & sleep 1003", timeout_s=900)

asyncio.run(main())
"""
