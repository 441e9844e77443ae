"""The local back-end, for real: with bubblewrap where it works, and without it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import psutil
import pytest

from tests.environments.conftest import MakeManager
from thunderctl.environments import local
from thunderctl.environments.lease import Lease
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.environments.processes import marked
from thunderctl.environments.spec import EnvironmentSpec, Mount
from thunderctl.errors import EnvironmentFailure, PreflightError


@pytest.fixture
def manager(local_manager: EnvironmentManager) -> EnvironmentManager:
    return local_manager


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without bubblewrap."""
    which = shutil.which
    monkeypatch.setattr(local.shutil, "which", lambda n, path=None: None if n == "bwrap" else which(n, path=path))


@pytest.fixture
async def wrapped(make_manager: MakeManager) -> EnvironmentManager:
    manager = await make_manager()
    if manager.notice and "bubblewrap" in manager.notice:
        pytest.skip(manager.notice)
    return manager


def processes_of(lease_id: str) -> list[int]:
    return [pid for pid, lease in marked() if lease == lease_id]


STUBBORN = "(trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 1000 & sleep 1000' >/dev/null 2>&1 &)"
"""Shell text: a tree that left its session, has another parent and ignores SIGTERM."""


async def appears(lease: Lease, name: str) -> None:
    file = Path(lease.place or "") / "root" / "testbed" / name
    while not file.exists():  # noqa: ASYNC110 (a command makes it)
        await asyncio.sleep(0.01)


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
    expected = {"PATH", "HOME", "TMPDIR", "LANG", "PYTHONDONTWRITEBYTECODE"}
    expected |= {"THUNDERCTL_LEASE", "THUNDERCTL_COMMAND"}
    shells_own = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert set(said) - shells_own == expected | {"FROM_SPEC", "FROM_CALL"}
    assert (said["FROM_SPEC"], said["FROM_CALL"], said["THUNDERCTL_LEASE"]) == ("1", "2", lease.id)


async def test_python_is_there_by_both_names(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    done = await manager.execute(lease.id, "python -c 'print(1)' && python3 -m unittest --help >/dev/null && echo ok")
    assert done.output == "1\nok\n"


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


async def test_commands_run_side_by_side_and_the_deadline_of_one_spares_the_other(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    other = asyncio.create_task(manager.execute(lease.id, "touch a; until [ -e go ]; do sleep 0.05; done; echo done"))
    await appears(lease, "a")
    late = await manager.execute(lease.id, f"touch b; {STUBBORN}; sleep 1000", timeout_s=0.5)
    assert late.timed_out
    assert (await manager.execute(lease.id, "ls a b && touch go")).output == "a\nb\n"
    assert ((await other).output, (await other).returncode) == ("done\n", 0)
    await nothing_left_of(lease.id)


async def test_a_command_that_ends_or_is_cancelled_takes_its_own_strays_along_and_no_others(
    manager: EnvironmentManager,
) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    waits = "until [ -e go ]; do sleep 0.05; done; kill -0 $! && echo alive"
    other = asyncio.create_task(manager.execute(lease.id, f"setsid sleep 1000 & touch a; {waits}"))
    await appears(lease, "a")
    before = len(processes_of(lease.id))
    await manager.execute(lease.id, STUBBORN)
    cancelled = asyncio.create_task(manager.execute(lease.id, f"{STUBBORN}; touch c; sleep 1000"))
    await appears(lease, "c")
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    while len(processes_of(lease.id)) > before:  # noqa: ASYNC110 (nothing tells when a foreign process is gone)
        await asyncio.sleep(0.01)
    await manager.put_files(lease.id, {"go": b""})
    assert (await other).output == "alive\n"
    await nothing_left_of(lease.id)


async def test_release_ends_every_command_that_runs(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    running = [
        asyncio.create_task(manager.execute(lease.id, f"{STUBBORN}; touch {n}; sleep 1000")) for n in ("a", "b", "c")
    ]
    for name in ("a", "b", "c"):
        await appears(lease, name)
    await manager.release(lease.id)
    for each in running:
        with pytest.raises(EnvironmentFailure, match="released in the meantime"):
            await each
    assert not Path(lease.place or "").exists()
    await nothing_left_of(lease.id)


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
    assert "all environments share /tmp" in (manager.notice or "")


async def test_a_temporary_file_is_its_environments_alone_and_goes_with_it(manager: EnvironmentManager) -> None:
    one, two = [await manager.request(f"p{n}", "r", EnvironmentSpec()) for n in range(2)]
    script = "mktemp >/dev/null; python3 -c 'import tempfile; tempfile.mkdtemp()'; ls -A \"$TMPDIR\" | wc -l"
    for lease in (one, two):
        assert (await manager.execute(lease.id, script)).output == "2\n"
    places = [Path(lease.place or "") / "tmp" for lease in (one, two)]
    assert [len(list(place.iterdir())) for place in places] == [2, 2]
    await manager.release(one.id)
    assert [place.exists() for place in places] == [False, True]


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


async def test_ports_and_users_are_refused_before_anything_is_made(manager: EnvironmentManager) -> None:
    for spec, what in ((EnvironmentSpec(ports=(80,)), "ports"), (EnvironmentSpec(user="nobody"), "user")):
        with pytest.raises(EnvironmentFailure, match=f"cannot have `{what}`"):
            await manager.request("p", "r", spec)
    assert not [lease for lease in manager.leases() if Path(lease.place or "/nowhere").exists()]


async def test_without_bubblewrap_a_mount_is_refused(make_manager: MakeManager, tmp_path: Path, bare: None) -> None:
    manager = await make_manager()
    with pytest.raises(EnvironmentFailure, match="cannot have `mounts`: without bubblewrap"):
        await manager.request("p", "r", EnvironmentSpec(mounts=(Mount(tmp_path, "/data"),)))


async def test_a_mount_is_read_only_unless_it_is_said_to_be_writable(
    wrapped: EnvironmentManager, tmp_path: Path
) -> None:
    given, results = tmp_path / "given", tmp_path / "results"
    for folder in (given, results):
        folder.mkdir()
    (given / "table.csv").write_text("1,2\n")
    mounts = (Mount(given, "/data/given"), Mount(results, "/results", writable=True))
    lease = await wrapped.request("p", "r", EnvironmentSpec(mounts=mounts, setup=("ln -s /data/given data",)))
    done = await wrapped.execute(lease.id, "cat data/table.csv; echo x > data/new || echo refused; echo y > /results/y")
    assert done.output.startswith("1,2\n")
    assert done.output.endswith("refused\n")
    assert [entry.name for entry in given.iterdir()] == ["table.csv"]
    assert (results / "y").read_text() == "y\n"
    await wrapped.release(lease.id)
    assert (results / "y").exists()


async def test_a_mount_may_neither_hide_a_part_of_the_sandbox_nor_lie_where_tools_write(
    wrapped: EnvironmentManager, tmp_path: Path
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    for target in ("/usr", "/usr/lib/x", "/etc", "/testbed", "/testbed/data", "/tmp/x", "/home", "/opt"):
        with pytest.raises(EnvironmentFailure, match=f"the mount target {target} collides with"):
            await wrapped.request("p", "r", EnvironmentSpec(mounts=(Mount(given, target),)))
    with pytest.raises(EnvironmentFailure, match="is in the machine itself"):
        await wrapped.request("p", "r", EnvironmentSpec(mounts=(Mount(Path("/etc"), "/data"),)))


async def test_an_environment_whose_folder_somebody_removed_says_so_at_once(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    shutil.rmtree(Path(lease.place or "") / "root")
    for use in (
        lambda: manager.execute(lease.id, "true"),
        lambda: manager.put_files(lease.id, {"a": b""}),
        lambda: manager.read_file(lease.id, "a"),
    ):
        with pytest.raises(EnvironmentFailure, match="the working directory /testbed of lease .* was removed"):
            await use()
    shutil.rmtree(lease.place or "")
    for use in (lambda: manager.execute(lease.id, "true"), lambda: manager.read_file(lease.id, "a")):
        with pytest.raises(EnvironmentFailure, match="is gone"):
            await use()
    await manager.release(lease.id)


async def test_variables_of_a_command_do_not_reach_what_runs_outside_of_its_sandbox(
    wrapped: EnvironmentManager, tmp_path: Path
) -> None:
    trap = tmp_path / "trap.sh"
    trap.write_text(f"touch {tmp_path}/sprung\n")
    lease = await wrapped.request("p", "r", EnvironmentSpec())
    env = {"BASH_ENV": str(trap), "A_SECRET": "do-not-tell", "EMPTY": "", "LINES": "a\nb --bind / /"}
    done = await wrapped.execute(lease.id, 'echo "$A_SECRET$EMPTY"; tr "\\0" " " </proc/1/cmdline', env=env)
    assert done.output.count("do-not-tell") == 1
    assert not (tmp_path / "sprung").exists()
    for name, value in (("A", "x\0--bind\0/\0/mnt"), ("A=B", ""), ("", "x")):
        with pytest.raises(EnvironmentFailure, match="cannot be set"):
            await wrapped.execute(lease.id, "true", env={name: value})
