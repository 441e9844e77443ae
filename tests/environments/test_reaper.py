"""The reaper as a process: real clients that get SIGKILL, and local folders and processes as what they leave."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.commandline import CommandLine, until
from tests.daemon.killable import STUB, KillableNode
from tests.environments.conftest import record_of
from tests.environments.test_collector import child_env
from thunderctl import paths
from thunderctl.environments import reaper_link
from thunderctl.environments.collector import carry_out, plan
from thunderctl.environments.lease import LeaseLedger
from thunderctl.errors import DaemonError
from thunderctl.node import node_is_alive, write_node

pytestmark = pytest.mark.usefixtures("no_engine")

DAEMON = """
import os, subprocess, sys, time
import psutil
from thunderctl import paths
from thunderctl.environments import reaper_link
from thunderctl.environments.lease import LeaseLedger
from thunderctl.node import NodeRecord, write_node

mine = reaper_link.hold("n1", "daemon")
folder = paths.nodes() / "n1"
write_node(folder, NodeRecord(os.getpid(), psutil.Process().create_time(), "", "p", "d", time.time()))
ledger = LeaseLedger(folder / "state.db")
for _ in range(int(sys.argv[1])):
    lease = ledger.open("p", "r", "local")
    ledger.move(lease.id, "preparing")
    ledger.move(lease.id, "ready")
    (folder / "environments" / lease.id).mkdir(parents=True)
    subprocess.Popen(["sleep", "1004"], env={**os.environ, "THUNDERCTL_LEASE": lease.id}, start_new_session=True)
print("ready", flush=True)
if sys.stdin.readline():  # told to end in order, and leaves its environments nevertheless
    (folder / "node.json").unlink()
    mine.farewell()
"""
"""A client that holds environments as a daemon does."""

StartDaemon = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder() -> Path:
    return paths.nodes() / "n1"


@pytest.fixture(autouse=True)
def nobody_left(home: Path) -> Iterator[None]:
    yield
    for process in CommandLine(home).processes():
        process.kill()


@pytest.fixture
def start_daemon(tmp_path: Path, folder: Path) -> Iterator[StartDaemon]:
    script = tmp_path / "daemon.py"
    script.write_text(DAEMON)
    started: list[subprocess.Popen[str]] = []

    def start(leases: int = 1, *, reap_after_s: float = 0, parent: Any = None) -> subprocess.Popen[str]:
        folder.mkdir(parents=True, exist_ok=True)
        launch = {"profile": {"environments": {"reap_after_s": reap_after_s}}, "parent": parent}
        (folder / "launch.json").write_text(json.dumps(launch))
        process = subprocess.Popen(
            [sys.executable, str(script), str(leases)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child_env(),
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def reapers(home: Path) -> list[int]:
    return [p.pid for p in CommandLine(home).processes() if "thunderctl.environments.reaper" in p.cmdline()]


def sleepers(home: Path) -> list[int]:
    return [p.pid for p in CommandLine(home).processes() if "1004" in p.cmdline()]


def kept_folders(folder: Path) -> list[Path]:
    return list((folder / "environments").glob("*"))


def said(folder: Path) -> str:
    with contextlib.suppress(OSError):
        return (folder / "logs" / "reaper.log").read_text()
    return ""


def test_what_a_killed_daemon_held_goes_and_then_the_reaper_ends(
    start_daemon: StartDaemon, home: Path, folder: Path
) -> None:
    daemon = start_daemon(leases=3)
    assert len(reapers(home)) == 1 and len(sleepers(home)) == len(kept_folders(folder)) == 3
    kill(daemon)
    until(lambda: not reapers(home))
    assert CommandLine(home).nothing_runs()
    assert not (folder / "node.json").exists()
    assert plan().items == []
    with contextlib.closing(LeaseLedger(folder / "state.db")) as ledger:
        assert {lease.state for lease in ledger.leases()} == {"reclaimed"}
    assert said(folder).count("removed: folder") == said(folder).count("removed: process") == 3


def test_the_node_of_a_run_is_collected_at_once_whatever_the_profile_says(
    start_daemon: StartDaemon, home: Path
) -> None:
    kill(start_daemon(reap_after_s=1000, parent={"pid": os.getpid(), "create_time": 0.0}))
    until(lambda: not reapers(home))
    assert CommandLine(home).nothing_runs()


def test_a_launcher_that_is_killed_while_the_daemon_lives_costs_nothing(
    start_daemon: StartDaemon, home: Path, folder: Path
) -> None:
    start_daemon()
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from thunderctl.environments import reaper_link; h = reaper_link.hold('n1', 'launcher'); input()",
        ],
        stdin=subprocess.PIPE,
        text=True,
        env=child_env(),
    )
    until(lambda: f"launcher {launcher.pid} is here" in said(folder))
    kill(launcher)
    until(lambda: f"launcher {launcher.pid} is gone without a farewell" in said(folder))
    reaper_link.dismiss("n1")  # which the reaper only hears when it is back from whatever it did
    assert len(sleepers(home)) == len(kept_folders(folder)) == len(reapers(home)) == 1


def test_a_daemon_that_is_started_again_in_time_keeps_everything(
    start_daemon: StartDaemon, home: Path, folder: Path
) -> None:
    first = start_daemon(reap_after_s=1000)
    watching = reapers(home)
    kill(first)
    until(lambda: "unless the node is started again" in said(folder))
    second = start_daemon(reap_after_s=0)
    assert reapers(home) == watching
    assert len(kept_folders(folder)) == len(sleepers(home)) == 2
    kill(second)  # and then both lives' things go
    until(lambda: not reapers(home))
    assert CommandLine(home).nothing_runs()


def test_while_up_or_down_is_at_work_the_reaper_waits_and_then_looks_again(
    start_daemon: StartDaemon, home: Path, folder: Path
) -> None:
    daemon = start_daemon()
    with (folder / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kill(daemon)
        until(lambda: "collecting what is left in 0 s" in said(folder))
        dead = (folder / "node.json").read_text()
        write_node(folder, record_of(os.getpid()))  # somebody brought it up under the lock
    until(lambda: "the node is up again" in said(folder))
    assert len(kept_folders(folder)) == len(sleepers(home)) == 1
    (folder / "node.json").write_text(dead)
    until(lambda: not reapers(home))
    assert CommandLine(home).nothing_runs()


def test_a_farewell_with_nothing_left_returns_when_the_reaper_is_gone(home: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    mine = reaper_link.hold("n1", "daemon")
    assert len(reapers(home)) == 1
    mine.farewell()
    assert reapers(home) == []


def test_what_a_daemon_could_not_give_back_is_collected_although_it_took_its_record_away(
    start_daemon: StartDaemon, home: Path, folder: Path
) -> None:
    daemon = start_daemon(reap_after_s=1000)
    daemon.communicate("end\n")
    until(lambda: not reapers(home))
    assert CommandLine(home).nothing_runs()
    assert "could not give everything back" in said(folder) and not (folder / "node.json").exists()


def test_a_reaper_that_finds_everything_collected_by_somebody_else_ends(
    start_daemon: StartDaemon, home: Path, folder: Path
) -> None:
    kill(start_daemon(reap_after_s=1000))
    until(lambda: "unless the node is started again" in said(folder))
    carry_out(plan())
    until(lambda: not reapers(home))
    assert "removed" not in said(folder)


def test_gc_and_the_reaper_at_the_same_time_remove_everything_once(
    start_daemon: StartDaemon, home: Path, folder: Path
) -> None:
    kill(start_daemon(leases=20))
    failed = []
    for _ in range(5):
        failed += carry_out(plan()).failed
    until(lambda: not reapers(home))
    assert failed == [] and "not removed" not in said(folder)
    assert CommandLine(home).nothing_runs() and plan().items == []


def test_however_many_ask_at_once_a_node_has_one_reaper(home: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    holds: list[reaper_link.Hold] = []
    threads = [threading.Thread(target=lambda: holds.append(reaper_link.hold("n1", "daemon"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(holds) == 6
    until(lambda: len(reapers(home)) == 1)
    for each in holds:
        each.farewell()
    assert reapers(home) == []


def test_a_reaper_is_a_session_of_its_own_that_no_signal_but_sigkill_ends(home: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    mine = reaper_link.hold("n1", "daemon")
    (pid,) = reapers(home)
    assert os.getsid(pid) != os.getsid(0) and psutil.Process(pid).ppid() != os.getpid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGPIPE):
        os.kill(pid, number)
    with reaper_link.held("n1", "another"):  # it answers still
        assert reapers(home) == [pid]
    mine.farewell()


def test_only_this_user_reaches_the_reaper_and_no_key_reaches_its_environment(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(parents=True)
    monkeypatch.setenv("MY_API_KEY", "not for others")
    mine = reaper_link.hold("n1", "daemon")
    assert (folder / "reaper.sock").stat().st_mode & 0o777 == 0o600
    (pid,) = reapers(home)
    environment = psutil.Process(pid).environ()
    assert "MY_API_KEY" not in environment
    assert environment["DOCKER_HOST"] == os.environ["DOCKER_HOST"]
    mine.farewell()


def test_a_folder_deeper_than_a_sockets_path_may_be_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 120)
    monkeypatch.setenv("THUNDERCTL_HOME", str(deep))
    (deep / "nodes" / "n1").mkdir(parents=True)
    reaper_link.hold("n1", "daemon").farewell()
    assert "said farewell" in (deep / "nodes" / "n1" / "logs" / "reaper.log").read_text()
    assert CommandLine(deep).nothing_runs()


def test_the_reaper_ends_with_its_folder(home: Path, folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    mine = reaper_link.hold("n1", "daemon")
    folder.rename(tmp_path / "elsewhere")
    until(lambda: not reapers(home))
    mine.farewell()  # to nobody: no error


def test_a_client_that_talks_nonsense_is_put_out_and_disturbs_nobody(home: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    mine = reaper_link.hold("n1", "daemon")
    for nonsense in (b"[]\n", b"{}\n", b"not json\n", b'{"who": 1, "pid": "x"}\n', b"x" * 10_000):
        odd = socket.socket(socket.AF_UNIX)
        with odd, reaper_link.socket_path(folder) as path:
            odd.connect(path)
            with contextlib.suppress(OSError):
                odd.sendall(nonsense)
                assert odd.recv(10) == b""
    assert len(reapers(home)) == 1
    mine.farewell()
    assert reapers(home) == []


def test_a_reaper_that_cannot_start_says_where_its_log_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True)
    (folder / "reaper.lock").mkdir()
    monkeypatch.setattr(reaper_link, "START_S", 0.1)
    with pytest.raises(DaemonError, match="reaper of the node n1 does not start") as told:
        reaper_link.hold("n1", "daemon")
    assert told.value.details and "reaper.log" in str(told.value.hint)


def test_for_a_node_whose_folder_is_gone_no_reaper_is_started(home: Path) -> None:
    with pytest.raises(DaemonError, match="does not start") as told:
        reaper_link.hold("n1", "daemon")
    assert told.value.details[-1].endswith("n1 is gone")
    assert not home.exists()


# ---------------------------------------------------------------------- with the real daemon


@pytest.fixture
def node(home: Path) -> Iterator[KillableNode]:
    node = KillableNode(home)
    yield node
    node.end()


def test_a_killed_daemons_workers_and_environments_go_within_the_profiles_time(node: KillableNode) -> None:
    node.prepare(environments={"backend": "local", "reap_after_s": 0})
    node.start()
    line = CommandLine(node.home)
    assert len([p for p in line.processes() if str(STUB) in p.cmdline()]) == 2
    node.kill()
    until(line.nothing_runs)
    assert not (node.folder / "node.json").exists()


def test_a_daemon_whose_reaper_was_killed_starts_another_that_does_the_work(node: KillableNode) -> None:
    node.prepare(environments={"backend": "local", "reap_after_s": 0})
    node.start()
    (first,) = reapers(node.home)
    os.kill(first, signal.SIGKILL)
    until(lambda: reapers(node.home) not in ([], [first]))
    until(lambda: said(node.folder).count("daemon") == 2)
    assert node_is_alive(node.folder) and node.is_up()
    node.kill()
    until(CommandLine(node.home).nothing_runs)


def test_a_daemon_that_is_killed_as_soon_as_it_is_there_leaves_nothing(node: KillableNode) -> None:
    node.prepare(environments={"backend": "local", "reap_after_s": 0})
    node.env["STUB_START_S"] = "600"
    node.start(wait=False)
    line = CommandLine(node.home)
    until(lambda: any(str(STUB) in p.cmdline() for p in line.processes()))
    node.kill()
    until(line.nothing_runs)
