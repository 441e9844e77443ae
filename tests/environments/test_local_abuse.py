"""What a hostile or broken tool may try in a local environment: it is contained, told, and reclaimed.

After each attempt a neighbour's environment still works, and nothing of the attacker's is left.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.environments.conftest import MakeManager
from tests.environments.test_local import nothing_left_of
from thunderctl.environments import cgroup, sizes
from thunderctl.environments.lease import Lease
from thunderctl.environments.local import LocalBackend
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.environments.spec import EnvironmentSpec, Limits

isolated_only = pytest.mark.parametrize("local_manager", ["bubblewrap"], indirect=True)
"""For what only bubblewrap isolates from."""
LIMITS = Limits(pids=40, disk_mib=16, output_bytes=1000)


@pytest.fixture
def manager(local_manager: EnvironmentManager) -> EnvironmentManager:
    return local_manager


@pytest.fixture
def wrapped(manager: EnvironmentManager) -> EnvironmentManager:
    assert is_wrapped(manager), "its test wants isolated_only"
    return manager


@pytest.fixture
async def lease(manager: EnvironmentManager) -> AsyncIterator[Lease]:
    """The attacker's; its neighbour is looked at when the attempt is over."""
    neighbour = await manager.request("neighbour", "r", EnvironmentSpec())
    await manager.execute(neighbour.id, "echo mine > kept")
    attacker = await manager.request("attacker", "r", EnvironmentSpec(limits=LIMITS))
    yield attacker
    done = await manager.execute(neighbour.id, "cat kept; python3 -c 'print(6 * 7)'")
    assert done.output == "mine\n42\n"
    assert (await manager.execute(attacker.id, "echo still here")).output.endswith("still here\n")
    await manager.release(attacker.id)
    assert not Path(attacker.place or "").exists()
    assert attacker.id not in cgroup.left()
    await nothing_left_of(attacker.id)


def is_wrapped(manager: EnvironmentManager) -> bool:
    assert isinstance(manager.backend, LocalBackend)
    return manager.backend._bwrap is not None


def counted_apart(manager: EnvironmentManager) -> bool:
    """Without control groups the limit is one per user, with room for everything else that runs."""
    assert isinstance(manager.backend, LocalBackend)
    return "pids" in manager.backend._groups.limited


def count_is_limited(manager: EnvironmentManager) -> bool:
    """Root is exempt from the kernel's limit per user: there a bomb would take the machine without control groups."""
    return os.geteuid() != 0 or counted_apart(manager)


async def test_a_fork_bomb_reaches_its_limit_and_ends_at_the_deadline(
    manager: EnvironmentManager, lease: Lease
) -> None:
    if not count_is_limited(manager):
        assert "the number of processes is not limited" in (manager.notice or "")
        return
    bomb = asyncio.create_task(manager.execute(lease.id, "bomb() { bomb | bomb & }; bomb; sleep 1000", timeout_s=1))
    most = 0
    while not bomb.done():
        most = max(most, sum(lease.id in said for said in environments()))
        await asyncio.sleep(0.1)
    assert (await bomb).timed_out
    assert most > 2
    assert most <= LIMITS.pids or not counted_apart(manager)
    await nothing_left_of(lease.id)


def environments() -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            found.append(Path(f"/proc/{process.pid}/environ").read_text(errors="replace"))
        except OSError:
            continue
    return found


async def test_a_crowd_beyond_the_limit_is_refused_inside(manager: EnvironmentManager, lease: Lease) -> None:
    if not count_is_limited(manager):
        assert "the number of processes is not limited" in (manager.notice or "")
        return
    crowd = "import os, time\nfor n in range(100):\n    if os.fork() == 0: time.sleep(1000)\nprint('all of them')"
    await manager.put_files(lease.id, {"crowd.py": crowd.encode()})
    done = await manager.execute(lease.id, "python3 crowd.py")
    if counted_apart(manager):
        assert "Resource temporarily unavailable" in done.output
        assert "all of them" not in done.output
    await nothing_left_of(lease.id)


async def test_a_file_beyond_the_limit_is_cut_off_and_its_writer_ended(
    manager: EnvironmentManager, lease: Lease
) -> None:
    done = await manager.execute(lease.id, "head -c 64M /dev/zero > big; echo $?; stat -c %s big; rm big")
    code, size = done.output.split()[-2:]
    assert code == str(128 + 25)  # SIGXFSZ
    assert int(size) == LIMITS.disk_mib << 20


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "PAUSE_S", 0.1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("where", [".", "$TMPDIR", "$HOME"])
async def test_many_files_beyond_the_limit_end_the_command_which_is_told_so(
    manager: EnvironmentManager, lease: Lease, where: str
) -> None:
    fill = f"cd {where}; echo begun; for i in $(seq 1000); do head -c 1M /dev/zero > f$i; sleep 0.01; done; echo all"
    done = await manager.execute(lease.id, fill)
    assert done.returncode == 137
    assert not done.timed_out
    first, *_, last = done.output.splitlines()
    assert first == "begun"
    assert last.startswith("[ended: the environment holds ")
    assert last.endswith(" MiB on disk, more than its limit of 16 MiB]")
    # Who tidies up is not disturbed, and works on.
    done = await manager.execute(lease.id, f"sleep 0.5; cd {where}; rm f*; sleep 0.5; ls | grep -c ^f")
    assert done.output == "0\n"


@pytest.mark.usefixtures("impatient")
async def test_many_short_commands_get_no_further_than_one_long_one(manager: EnvironmentManager, lease: Lease) -> None:
    for number in range(400):
        done = await manager.execute(lease.id, f"head -c 2M /dev/zero > f{number}")
        if "[ended:" in done.output:
            break
    assert number < 399
    await manager.execute(lease.id, "rm f*")


@isolated_only
async def test_shared_memory_counts_as_disk(wrapped: EnvironmentManager, lease: Lease) -> None:
    await wrapped.execute(lease.id, "head -c 8M /dev/zero > /dev/shm/x")
    await wrapped.disk_usage()
    assert next(each for each in wrapped.leases() if each.id == lease.id).bytes >= 8 << 20
    assert (await wrapped.execute(lease.id, "touch /dev/x")).returncode != 0


async def test_endless_output_ends_at_the_deadline_with_head_and_tail(
    manager: EnvironmentManager, lease: Lease
) -> None:
    done = await manager.execute(lease.id, "echo first; yes 0123456789", timeout_s=0.5)
    assert done.timed_out
    assert done.output.startswith("first\n0123456789\n")
    assert f"\n[... {done.truncated_bytes} bytes cut ...]\n" in done.output
    assert len(done.output) < 1100
    assert done.truncated_bytes > 0


async def test_a_command_that_ignores_sigterm_ends_at_the_deadline(manager: EnvironmentManager, lease: Lease) -> None:
    done = await manager.execute(lease.id, "trap '' TERM INT HUP; while :; do sleep 1; done", timeout_s=0.3)
    assert done.timed_out
    assert done.returncode == 137
    await nothing_left_of(lease.id)


DAEMON = """
import os, signal, time
for n in range(1, 32):
    if n not in (9, 19): signal.signal(n, signal.SIG_IGN)
for _ in range(2):
    if os.fork(): os._exit(0)
    os.setsid()
os.closerange(0, 100)
with open("daemon", "w") as file: file.write(str(os.getpid()))
time.sleep(1000)
"""


async def test_a_daemon_that_left_everything_behind_ends_with_its_command(
    manager: EnvironmentManager, lease: Lease
) -> None:
    await manager.put_files(lease.id, {"d.py": DAEMON.encode()})
    done = await manager.execute(lease.id, "python3 d.py; until [ -e daemon ]; do sleep 0.02; done; echo gone", 10)
    assert done.output == "gone\n"
    await nothing_left_of(lease.id)


async def test_a_daemon_that_emptied_its_environment_ends_with_its_command_all_the_same(
    manager: EnvironmentManager, lease: Lease
) -> None:
    assert isinstance(manager.backend, LocalBackend)
    if not is_wrapped(manager) and not manager.backend._groups.hierarchies:
        pytest.skip("neither a namespace nor a control group holds it here")
    sleeper = f"sleep 1{lease.created:.6f}"  # a name that no other process has
    hide = f"env -i /bin/bash -c 'exec setsid {sleeper}' >/dev/null 2>&1 & sleep 0.3; echo gone"
    assert (await manager.execute(lease.id, hide)).output == "gone\n"
    while any(sleeper in said for said in command_lines()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def command_lines() -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@isolated_only
async def test_killing_everything_ends_nobody_outside(wrapped: EnvironmentManager, lease: Lease) -> None:
    other = asyncio.create_task(wrapped.execute(lease.id, "touch up; until [ -e go ]; do sleep 0.02; done; echo alive"))
    while not (Path(lease.place or "") / "root/testbed/up").exists():
        await asyncio.sleep(0.01)
    assert (await wrapped.execute(lease.id, "sleep 1000 & kill -9 -1; sleep 1000", timeout_s=1)).returncode != 0
    await wrapped.put_files(lease.id, {"go": b""})
    assert (await other).output == "alive\n"


@isolated_only
async def test_another_environment_cannot_be_read(wrapped: EnvironmentManager, lease: Lease) -> None:
    neighbour = next(each for each in wrapped.leases() if each.program == "neighbour")
    done = await wrapped.execute(
        lease.id,
        f"cat {neighbour.place}/root/testbed/kept; ls {Path(neighbour.place or '').parent}; "
        f"ls /proc/1/root{neighbour.place} /proc/*/root{neighbour.place}; cat /proc/[0-9]*/environ | tr '\\0' '\\n'",
    )
    assert "mine" not in done.output
    assert neighbour.id not in [line.partition("=")[2] for line in done.output.splitlines()]
    assert done.output.count("No such file or directory") >= 3


@isolated_only
async def test_nothing_outside_can_be_written(wrapped: EnvironmentManager, lease: Lease, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    places = [str(outside), "/usr", "/etc", "/opt", "/opt/tools/bin", "/proc/sys/kernel", "/home", "/", "/dev"]
    done = await wrapped.execute(lease.id, "; ".join(f"touch {place}/x && echo written" for place in places))
    assert "written" not in done.output
    assert not list(outside.iterdir())
    done = await wrapped.execute(
        lease.id, "mount -t tmpfs x /mnt; mount -o remount,rw /; unshare -m true; chroot / true"
    )
    assert done.returncode != 0


async def test_a_tool_that_swaps_links_does_not_lead_files_out(
    manager: EnvironmentManager, lease: Lease, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("do-not-tell")
    swap = (
        "import os\nwhile not os.path.exists('stop'):\n"
        "    for make in (lambda: os.mkdir('way'), lambda: os.rmdir('way'), "
        f"lambda: os.symlink('{outside}', 'way'), lambda: os.unlink('way')):\n"
        "        try: make()\n        except OSError: pass\n"
    )
    await manager.put_files(lease.id, {"swap.py": swap.encode()})
    swapping = asyncio.create_task(manager.execute(lease.id, "touch up; python3 swap.py", timeout_s=20))
    while not (Path(lease.place or "") / "root/testbed/up").exists():
        await asyncio.sleep(0.01)
    for _ in range(100):
        try:
            await manager.put_files(lease.id, {"way/new": b"x"})
        except Exception as error:
            assert "cannot be written" in str(error)
        try:
            assert await manager.read_file(lease.id, "way/secret") != b"do-not-tell"
        except Exception as error:
            assert "is not a file" in str(error) or "there is no file" in str(error)
    await manager.put_files(lease.id, {"stop": b""})
    await swapping
    assert [entry.name for entry in outside.iterdir()] == ["secret"]


async def test_a_pipe_in_the_place_of_a_file_holds_nobody(manager: EnvironmentManager, lease: Lease) -> None:
    await manager.execute(lease.id, "mkfifo pipe")
    with pytest.raises(Exception, match="is not a file"):
        await manager.read_file(lease.id, "pipe")


async def test_environments_that_were_killed_with_their_daemon_are_found_by_their_groups(
    make_manager: MakeManager,
) -> None:
    manager = await make_manager()
    assert isinstance(manager.backend, LocalBackend)
    lease = await manager.request("p", "r", EnvironmentSpec())
    assert (lease.id in cgroup.left()) == bool(manager.backend._groups.hierarchies)
    cgroup.end_lease(lease.id)
    assert lease.id not in cgroup.left()
    assert (await manager.execute(lease.id, "echo again")).output == "again\n"
