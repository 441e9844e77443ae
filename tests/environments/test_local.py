"""The local back-end, for real: with bubblewrap where it works, and without it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

import psutil
import pytest

from tests.environments.conftest import MakeManager
from thunderctl.environments import local
from thunderctl.environments.local import LocalBackend
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.environments.processes import marked
from thunderctl.environments.spec import EnvironmentSpec, Limits
from thunderctl.errors import EnvironmentFailure, PreflightError


@pytest.fixture(params=["bubblewrap", "plain"])
async def manager(
    request: pytest.FixtureRequest, make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
) -> EnvironmentManager:
    if request.param == "plain":
        which = local.shutil.which
        monkeypatch.setattr(local.shutil, "which", lambda n, path=None: None if n == "bwrap" else which(n, path=path))
        return await make_manager()
    made = await make_manager()
    assert isinstance(made.backend, LocalBackend)
    if made.backend._bwrap is None:
        pytest.skip(made.backend.notice or "no bubblewrap")
    return made


def processes_of(lease_id: str) -> list[int]:
    return [pid for pid, lease in marked() if lease == lease_id]


async def nothing_left_of(lease_id: str) -> None:
    """Return once no process carries the lease; a killed one may take a moment to disappear."""
    while processes_of(lease_id):  # noqa: ASYNC110 (nothing tells when a foreign process is gone)
        await asyncio.sleep(0.01)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "pkg").mkdir(parents=True)
    (folder / "pkg" / "a.py").write_text("one = 1\n")
    (folder / "link.py").symlink_to("pkg/a.py")
    return folder


async def test_a_program_works_in_a_copy_that_git_knows(manager: EnvironmentManager, files: Path) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec(files=files, setup=("echo made > made.txt",)))
    assert lease.state == "ready"
    done = await manager.execute(lease.id, "cat link.py made.txt && echo 'one = 2' > pkg/a.py && git diff")
    assert done.returncode == 0
    assert done.output.startswith("one = 1\nmade\n")
    assert "-one = 1\n+one = 2\n" in done.output
    assert "made.txt" not in done.output
    assert (files / "pkg" / "a.py").read_text() == "one = 1\n"
    assert manager.leases()[0].state == "in_use"


async def test_the_same_files_give_the_same_commit(manager: EnvironmentManager, files: Path) -> None:
    leases = [await manager.request(f"p{n}", "r", EnvironmentSpec(files=files)) for n in range(2)]
    first, second = [(await manager.execute(lease.id, "git rev-parse HEAD")).output for lease in leases]
    assert first == second


async def test_a_working_directory_without_git_stays_without(manager: EnvironmentManager, files: Path) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec(files=files, git=False))
    assert (await manager.execute(lease.id, "test -e .git")).returncode == 1


async def test_output_and_errors_come_in_the_order_they_were_written(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    done = await manager.execute(lease.id, "echo 1; echo 2 >&2; echo 3; exit 7")
    assert (done.output, done.returncode, done.timed_out) == ("1\n2\n3\n", 7, False)


async def test_a_command_that_a_signal_ended_tells_so(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    assert (await manager.execute(lease.id, "kill -SEGV $$")).returncode == 128 + 11


async def test_nothing_is_inherited_and_what_is_asked_for_is_there(
    manager: EnvironmentManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET_KEY", "do-not-tell")
    lease = await manager.request("p", "r", EnvironmentSpec(env={"FROM_SPEC": "1"}))
    done = await manager.execute(lease.id, "env", env={"FROM_CALL": "2"})
    said = dict(line.split("=", 1) for line in done.output.splitlines())
    assert "do-not-tell" not in done.output
    expected = {"PATH", "HOME", "TMPDIR", "LANG", "PYTHONDONTWRITEBYTECODE", "THUNDERCTL_LEASE"}
    shells_own = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert set(said) - shells_own == expected | {"FROM_SPEC", "FROM_CALL"}
    assert (said["FROM_SPEC"], said["FROM_CALL"], said["THUNDERCTL_LEASE"]) == ("1", "2", lease.id)


async def test_python_is_there_by_both_names(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    done = await manager.execute(lease.id, "python -c 'print(1)' && python3 -m unittest --help >/dev/null && echo ok")
    assert done.output == "1\nok\n"


async def test_endless_output_ends_at_the_deadline_with_head_and_tail(manager: EnvironmentManager) -> None:
    spec = EnvironmentSpec(limits=Limits(output_bytes=1000))
    lease = await manager.request("p", "r", spec)
    done = await manager.execute(lease.id, "echo first; yes 0123456789", timeout_s=0.5)
    assert done.timed_out
    assert done.output.startswith("first\n0123456789\n")
    assert f"\n[... {done.truncated_bytes} bytes cut ...]\n" in done.output
    assert len(done.output) < 1100
    assert done.truncated_bytes > 0


async def test_a_command_that_ignores_sigterm_ends_at_the_deadline(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    done = await manager.execute(lease.id, "trap '' TERM INT HUP; while :; do sleep 1; done", timeout_s=0.3)
    assert done.timed_out
    assert done.returncode == 137
    await nothing_left_of(lease.id)


async def test_a_double_fork_into_a_session_of_its_own_does_not_outlive_the_deadline(
    manager: EnvironmentManager,
) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    done = await manager.execute(lease.id, "(setsid sleep 1000 >/dev/null 2>&1 &) ; sleep 1000", timeout_s=0.3)
    assert done.timed_out
    await nothing_left_of(lease.id)


async def test_a_background_process_that_holds_the_output_neither_delays_nor_outlives_its_command(
    manager: EnvironmentManager,
) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    done = await manager.execute(lease.id, "setsid sleep 1000 & echo done", timeout_s=500)
    assert (done.output, done.returncode, done.timed_out) == ("done\n", 0, False)
    await nothing_left_of(lease.id)


async def test_a_cancelled_command_is_killed_and_the_environment_goes_on(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    running = asyncio.create_task(manager.execute(lease.id, "(setsid sleep 1000 &) ; touch started; sleep 1000"))
    folder = Path(lease.place or "") / "root" / "testbed"
    while not (folder / "started").exists():
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await nothing_left_of(lease.id)
    assert (await manager.execute(lease.id, "echo still here")).output == "still here\n"


async def test_release_ends_a_command_that_runs_and_removes_the_folder(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    running = asyncio.create_task(manager.execute(lease.id, "touch started; sleep 1000"))
    folder = Path(lease.place or "")
    while not (folder / "root" / "testbed" / "started").exists():
        await asyncio.sleep(0.01)
    assert (await manager.release(lease.id)).state == "reclaimed"
    with pytest.raises(EnvironmentFailure, match="released in the meantime"):
        await running
    assert not folder.exists()
    await nothing_left_of(lease.id)
    with pytest.raises(EnvironmentFailure, match="is reclaimed"):
        await manager.execute(lease.id, "true")


async def test_a_folder_that_tools_made_unwritable_is_removed_all_the_same(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    await manager.execute(lease.id, "mkdir -p a/b && touch a/b/c && chmod -R a-w a")
    await manager.release(lease.id)
    assert not Path(lease.place or "").exists()


async def test_files_are_put_and_read_below_the_working_directory(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    await manager.put_files(lease.id, {"deep/er/x.bin": bytes(range(256)), "top": b"t"})
    assert await manager.read_file(lease.id, "deep/er/x.bin") == bytes(range(256))
    assert (await manager.execute(lease.id, "cat top")).output == "t"
    for name in ("../x", "/etc/x", "a/../../x"):
        with pytest.raises(EnvironmentFailure, match="does not stay inside"):
            await manager.put_files(lease.id, {name: b""})
        with pytest.raises(EnvironmentFailure, match="does not stay inside"):
            await manager.read_file(lease.id, name)


async def test_a_link_that_a_command_laid_leads_neither_reading_nor_writing_out(
    manager: EnvironmentManager, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    lease = await manager.request("p", "r", EnvironmentSpec())
    await manager.execute(lease.id, f"ln -s {outside} way && ln -s {outside}/secret file")
    for name in ("way/secret", "file"):
        with pytest.raises(EnvironmentFailure):
            await manager.read_file(lease.id, name)
    await manager.put_files(lease.id, {"way/new": b"1", "file": b"2"})
    assert {entry.name for entry in outside.iterdir()} == {"secret"}
    assert (outside / "secret").read_text() == "s"
    assert await manager.read_file(lease.id, "way/new") == b"1"


async def test_a_file_beyond_the_limit_is_not_read_into_memory(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    await manager.execute(lease.id, "truncate -s 1G big")
    with pytest.raises(EnvironmentFailure, match="1073741824 bytes"):
        await manager.read_file(lease.id, "big")


async def test_a_command_cannot_take_more_memory_than_it_was_given(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    done = await manager.execute(lease.id, "python3 -c 'x = bytearray(6 << 30)'")
    assert "MemoryError" in done.output


async def test_a_fork_bomb_ends_at_the_deadline_and_root_is_told_that_nobody_counts_its_processes(
    manager: EnvironmentManager,
) -> None:
    if os.geteuid() == 0:  # the kernel exempts root from RLIMIT_NPROC: a bomb would take the machine
        assert re.search("number of their processes is not limited|any number of processes", manager.notice or "")
        return
    lease = await manager.request("p", "r", EnvironmentSpec(limits=Limits(pids=32)))
    done = await manager.execute(lease.id, "bomb() { bomb | bomb & }; bomb; sleep 1000", timeout_s=1)
    assert done.timed_out
    await nothing_left_of(lease.id)


async def test_a_crowd_of_processes_ends_with_its_command(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    await manager.execute(lease.id, "for i in $(seq 40); do setsid sleep 1000 >/dev/null & done; wait", timeout_s=1)
    await nothing_left_of(lease.id)


async def test_inside_bubblewrap_a_tool_sees_neither_network_nor_home_nor_other_processes(
    make_manager: MakeManager, tmp_path: Path
) -> None:
    manager = await make_manager()
    if manager.backend.notice and "bubblewrap" in manager.backend.notice:
        pytest.skip(manager.backend.notice)
    lease = await manager.request("p", "r", EnvironmentSpec())
    done = await manager.execute(
        lease.id,
        f"pwd; ls -d {tmp_path} {Path.home()}/.bashrc /etc/shadow 2>/dev/null; touch /usr/x /x 2>/dev/null; "
        "ls /proc | grep -c '^[0-9]' ; grep -c : /proc/net/dev; grep CapEff /proc/self/status",
    )
    lines = done.output.split()
    assert lines[0] == "/testbed"
    assert len(lines) == 5, done.output  # nothing that `ls -d` could have found
    assert int(lines[1]) < 10
    assert int(lines[2]) == 1  # the loopback device
    assert int(lines[4], 16) == 0


async def test_without_bubblewrap_the_person_is_told(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local.shutil, "which", lambda name, path=None: None if name == "bwrap" else f"/usr/bin/{name}")
    manager = await make_manager()
    assert "bubblewrap is not installed" in (manager.notice or "")


async def test_a_missing_git_is_told_before_anything_starts(
    make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr(local.shutil, "which", lambda name, path=None: None if name == "git" else which(name))
    with pytest.raises(PreflightError, match="git is missing"):
        await make_manager()


async def test_disk_usage_sums_the_folders_and_is_noted_in_the_ledger(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    await manager.execute(lease.id, "head -c 3000000 /dev/urandom > data")
    usage = await manager.disk_usage()
    assert usage.bytes_now == sum(usage.by_kind.values()) >= 3_000_000
    assert manager.leases()[0].bytes >= 3_000_000


async def test_hundreds_of_commands_leave_no_descriptor_open(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    await manager.execute(lease.id, "true")
    before = psutil.Process().num_fds()
    for _ in range(50):
        await manager.execute(lease.id, "true")
    assert psutil.Process().num_fds() <= before
