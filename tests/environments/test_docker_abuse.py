"""What a hostile or broken tool may try in a container: it is contained, told, and reclaimed.

After each attempt a neighbour's environment still works, and nothing of the attacker's is left.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from docker.errors import NotFound

from tests.environments.docker_places import KEEPERS, Place, Places, base_image, places
from thunderctl.environments import sizes
from thunderctl.environments.disk import folder_bytes
from thunderctl.environments.spec import Limits
from thunderctl.errors import EnvironmentFailure

__all__ = ["base_image", "places"]  # fixtures

pytestmark = pytest.mark.docker

DISK_MIB = 64
LIMITS = Limits(memory_mib=256, pids=60, disk_mib=DISK_MIB, output_bytes=1000)


@pytest.fixture
async def attacker(places: Places) -> AsyncIterator[Place]:
    """Its neighbour is looked at when the attempt is over."""
    neighbour = await places.make()
    await neighbour.execute("echo mine > kept")
    place = await places.make(LIMITS)
    yield place
    done = await neighbour.execute("cat kept; python3 -c 'print(6 * 7)'")
    assert done.output == "mine\n42\n"
    assert places.processes(neighbour) == KEEPERS
    assert (await place.execute("echo still here")).output == "still here\n"
    assert places.processes(place) == KEEPERS
    upper = places.client.api.inspect_container(place.container)["GraphDriver"]["Data"].get("UpperDir")
    await places.backend.reclaim(place.lease)
    with pytest.raises(NotFound):
        places.client.api.inspect_container(place.container)
    assert upper is None or not Path(upper).exists()


async def test_a_fork_bomb_is_bounded_and_ends_at_the_deadline(attacker: Place) -> None:
    done = await attacker.execute("bomb() { bomb | bomb & }; bomb; sleep 1000", timeout_s=1)
    assert done.timed_out


async def test_a_fork_bomb_that_hides_in_sessions_of_its_own_ends_too(attacker: Place) -> None:
    bomb = (
        "import os, signal\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True:\n"
        "    try:\n        if os.fork() == 0: os.setsid()\n    except OSError: pass\n"
    )
    await attacker.backend.put_files(attacker.lease, attacker.wanted, {"bomb.py": bomb.encode()})
    done = await attacker.execute("env -i /usr/bin/python3 bomb.py & sleep 1000", timeout_s=1)
    assert done.timed_out


async def test_a_crowd_beyond_the_limit_is_refused_inside(attacker: Place) -> None:
    crowd = "import os, time\nfor n in range(100):\n    if os.fork() == 0: time.sleep(1000)\nprint('all of them')"
    await attacker.backend.put_files(attacker.lease, attacker.wanted, {"crowd.py": crowd.encode()})
    done = await attacker.execute("python3 crowd.py")
    assert "Resource temporarily unavailable" in done.output
    assert "all of them" not in done.output


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "PAUSE_S", 0.1)


async def test_one_huge_file_is_cut_off_at_the_limit(attacker: Place, places: Places) -> None:
    done = await attacker.execute("head -c 10G /dev/zero > big; echo $?; stat -c %s big")
    code, size = done.output.split()[-2:]
    assert code == str(128 + 25)  # SIGXFSZ
    assert int(size) == DISK_MIB << 20


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("where", [".", "/tmp", "/"])
async def test_ten_gigabytes_in_many_files_end_the_command_which_is_told_so(
    attacker: Place, places: Places, where: str
) -> None:
    fill = f"cd {where}; echo begun; for i in $(seq 2000); do head -c 5M /dev/zero > f$i; sleep 0.01; done; echo all"
    done = await attacker.execute(fill)
    assert done.returncode == 137
    assert not done.timed_out
    first, *_, last = done.output.splitlines()
    assert first == "begun"
    assert last.startswith("[ended: the environment holds ")
    assert last.endswith(f" MiB on disk, more than its limit of {DISK_MIB} MiB]")
    upper = Path(places.client.api.inspect_container(attacker.container)["GraphDriver"]["Data"]["UpperDir"])
    if os.access(upper, os.R_OK):
        assert DISK_MIB << 20 <= folder_bytes(upper) < 2 << 30
    # Who tidies up is not disturbed, and works on.
    done = await attacker.execute(f"sleep 0.5; cd {where}; rm f*; sleep 0.5; echo tidy")
    assert done.output == "tidy\n"


@pytest.mark.usefixtures("impatient")
async def test_what_is_written_too_much_ends_every_command_of_the_environment(attacker: Place) -> None:
    fill = "for i in $(seq 2000); do head -c 5M /dev/zero > f$i; sleep 0.01; done"
    both = await asyncio.gather(attacker.execute(fill), attacker.execute("sleep 1000", timeout_s=900))
    assert [each.returncode for each in both] == [137, 137]
    assert all("[ended: the environment holds " in each.output for each in both)


async def test_endless_output_is_cut_and_ends_at_the_deadline(attacker: Place) -> None:
    done = await attacker.execute("yes", timeout_s=1)
    assert done.timed_out
    assert len(done.output) < LIMITS.output_bytes + 100
    assert done.truncated_bytes > 0


async def test_a_command_that_ignores_sigterm_is_killed(attacker: Place) -> None:
    done = await attacker.execute("trap '' TERM INT HUP; echo deaf; while :; do sleep 1; done", timeout_s=0.5)
    assert done.timed_out
    assert done.output.startswith("deaf\n")


@pytest.mark.parametrize("command", ["kill -9 -1", "trap '' HUP; kill -9 -1; sleep 1000", "kill -STOP -1; sleep 1000"])
async def test_a_command_that_signals_everything_it_can_does_not_reach_the_keeper(
    attacker: Place, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("thunderctl.environments.container_command.LATE_S", 3)
    done = await attacker.execute(command, timeout_s=1)
    assert done.returncode == 137


async def test_a_memory_hog_is_ended_within_its_limit(attacker: Place) -> None:
    done = await attacker.execute("echo begun; python3 -c 'b = [bytearray(1 << 20) for _ in range(10000)]'; echo $?")
    assert done.output.splitlines()[0] == "begun"
    assert done.output.splitlines()[-1] == "137"


async def test_shared_memory_counts_as_memory_and_is_small(attacker: Place) -> None:
    done = await attacker.execute("head -c 1G /dev/zero > /dev/shm/x; stat -c %s /dev/shm/x; rm /dev/shm/x")
    assert int(done.output.split()[-1]) <= 64 << 20


async def test_a_daemon_left_behind_ends_with_its_command(attacker: Place, places: Places) -> None:
    leave = "setsid nohup env -i sh -c 'while :; do sleep 1; done' >/dev/null 2>&1 & echo left"
    done = await attacker.execute(leave, timeout_s=500)
    assert (done.output, done.returncode, done.timed_out) == ("left\n", 0, False)
    assert places.processes(attacker) == KEEPERS


ESCAPES = {
    "network": "python3 -c 'import socket; socket.create_connection((\"1.1.1.1\", 53), 2)'",
    "the engine through the bridge": "python3 -c 'import socket; socket.create_connection((\"172.17.0.1\", 2375), 2)'",
    "raw sockets": "python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)'",
    "mount": "mount -t tmpfs none /mnt",
    "mount --bind": "mount --bind /proc /mnt",
    "a user namespace": "unshare -U -r true",
    "a mount namespace": "unshare -m true",
    "the engine's socket": "ls /var/run/docker.sock || ls /run/docker.sock",
    "the keeper's memory": "head -c 1 /proc/1/mem || head -c 1 /proc/6/mem",
    "the keeper's environment": "cat /proc/1/environ",
    "the keeper's files": "ls /proc/1/root/ || ls /proc/1/fd/",
    "signals to the keeper": "kill -9 1",
    "becoming the keeper": "python3 -c 'import os; os.setuid(60999)'",
    "kernel settings": "echo 1 > /proc/sys/kernel/panic",
    "the clock": "date -s 2000-01-01",
    "devices": "mknod /tmp/disk b 8 0",
    "control groups": "mkdir /sys/fs/cgroup/memory/mine 2>&1 || mkdir /sys/fs/cgroup/mine",
    "its own limits": "ulimit -f unlimited",
    "kernel messages": "dmesg",
}


@pytest.mark.parametrize("attempt", ESCAPES.values(), ids=ESCAPES)
async def test_an_attempt_to_get_out_is_refused(places: Places, attempt: str) -> None:
    place = await places.make(LIMITS)
    done = await place.execute(f"({attempt}) >/dev/null 2>&1 && echo in || echo refused")
    assert done.output == "refused\n"
    assert (await place.execute("echo still here")).output == "still here\n"


async def test_a_container_that_cannot_be_cleared_is_stopped_and_that_is_said(places: Places) -> None:
    place = await places.make(LIMITS)
    # As root, a tool may take the shell away and kill its wrapper: then nothing inside can end what it left.
    parents = "p=$$; while [ $p -gt 1 ]; do set -- $(cat /proc/$p/stat); p=$4; [ $p -gt 1 ] && kill -9 $p; done"
    with pytest.raises(EnvironmentFailure, match="stopped, as its tools could not be ended otherwise"):
        await place.execute(f"rm /bin/sh; (setsid sleep 1000 &); {parents}; sleep 1000")
    with pytest.raises(EnvironmentFailure, match="is gone"):
        await place.execute("true")
