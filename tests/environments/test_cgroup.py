"""Control groups: for real where this machine permits them, and hierarchies told by files where it does not."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from thunderctl.environments import cgroup
from thunderctl.environments.cgroup import PARENT, Groups, Hierarchy
from thunderctl.environments.spec import Limits

LEASE = f"test{os.getpid()}"
LIMITS = Limits(cpus=0.25, memory_mib=64, pids=10)


def machine() -> list[Hierarchy]:
    return list(cgroup.permitted().hierarchies)


def second() -> list[Hierarchy]:
    """Version 2, where it is mounted and this process is in its root, even if its controllers are elsewhere."""
    return [
        Hierarchy(point / PARENT, (), 2)
        for point, own, names in cgroup._mounted(Path("/proc/self"))
        if names is None and own == "" and cgroup._ours(point)
    ]


@pytest.fixture(params=["as permitted", "version 2 by itself"])
def groups(request: pytest.FixtureRequest) -> Iterator[Groups]:
    found = machine() if request.param == "as permitted" else second()
    if not found:
        pytest.skip("not permitted on this machine")
    yield Groups(found, ())
    cgroup.end_lease(LEASE)


@contextlib.contextmanager
def inside(groups: Groups, script: str, command: str | None = None) -> Iterator[subprocess.Popen[str]]:
    files = groups.join_files(LEASE, LIMITS, command)
    joined = "; ".join(f"echo 0 > {file}" for file in files)
    with subprocess.Popen(["bash", "-c", f"{joined}; {script}"], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_end_of_a_lease_ends_processes_without_any_mark_and_removes_the_groups(groups: Groups) -> None:
    with inside(groups, "env -i setsid sleep 1000 & echo up; sleep 1000") as process:
        assert first_line(process) == "up"
        assert LEASE in cgroup.left()
        groups.end_lease(LEASE)
        assert process.wait() == -9
    assert LEASE not in cgroup.left()
    assert not any((hierarchy.parent / LEASE).exists() for hierarchy in groups.hierarchies)


def test_the_end_of_a_command_spares_another_of_the_same_lease(groups: Groups) -> None:
    with inside(groups, "echo up; sleep 1000", "one") as one, inside(groups, "echo up; sleep 1000", "two") as two:
        assert (first_line(one), first_line(two)) == ("up", "up")
        groups.end_command(LEASE, "one")
        assert one.wait() == -9
        assert two.poll() is None
        groups.end_command(LEASE, "one")  # twice is fine


def test_a_group_that_somebody_removed_is_made_again(groups: Groups) -> None:
    assert groups.join_files(LEASE, LIMITS)
    cgroup.end_lease(LEASE)
    assert all(Path(file).exists() for file in groups.join_files(LEASE, LIMITS))


def test_processes_and_processors_are_limited_for_the_environment_as_a_whole() -> None:
    permitted = cgroup.permitted()
    if not permitted.limited:
        pytest.skip("not permitted on this machine")
    try:
        permitted.join_files(LEASE, LIMITS)
        said = {
            file.name: file.read_text().split()
            for hierarchy in permitted.hierarchies
            for file in (hierarchy.parent / LEASE).iterdir()
            if file.name in ("pids.max", "cpu.max", "cpu.cfs_quota_us", "memory.max", "memory.limit_in_bytes")
        }
    finally:
        permitted.end_lease(LEASE)
    expected = {
        "pids.max": ["10"],
        "cpu.max": ["25000", "100000"],
        "cpu.cfs_quota_us": ["25000"],
        "memory.max": [str(64 << 20)],
        "memory.limit_in_bytes": [str(64 << 20)],
    }
    told = {name: values for name, values in said.items() if name.partition(".")[0] in permitted.limited}
    assert told == {name: expected[name] for name in told}
    assert {name.partition(".")[0] for name in told} == permitted.limited


# Hierarchies as files tell of them.


def told(folder: Path, groups: str, mounts: str) -> Path:
    process = folder / "process"
    process.mkdir()
    (process / "cgroup").write_text(groups)
    (process / "mountinfo").write_text(mounts)
    return process


def place(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"cgroup_procs": "", **files}.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    return folder


V1 = "30 20 0:1 / {point} rw - cgroup cgroup rw,{names}\n"
V2 = "31 20 0:2 / {point} rw - cgroup2 cgroup2 rw\n"


def test_version_1_is_used_where_the_process_is_in_no_group(tmp_path: Path) -> None:
    cpu, pids, memory = (place(tmp_path / name) for name in ("cpu", "pids", "memory"))
    mounts = V1.format(point=cpu, names="cpu,cpuacct") + V1.format(point=pids, names="pids")
    mounts += V1.format(point=memory, names="memory") + V2.format(point=place(tmp_path / "unified"))
    process = told(tmp_path, "3:cpu,cpuacct:/\n2:pids:/\n1:memory:/somebody/elses\n0::/\n", mounts)
    assert cgroup.find(process) == [Hierarchy(pids / PARENT, ("pids",), 1), Hierarchy(cpu / PARENT, ("cpu",), 1)]


def test_version_2_is_used_beside_the_own_group_unless_that_carries_limits(tmp_path: Path) -> None:
    slice_ = place(tmp_path / "v2" / "user.slice", cgroup_subtree_control="cpuset memory pids")
    own = place(slice_ / "session.scope", memory_max="max\n", pids_max="max\n")
    process = told(tmp_path, "0::/user.slice/session.scope\n", V2.format(point=tmp_path / "v2"))
    assert cgroup.find(process) == [Hierarchy(slice_ / PARENT, ("memory", "pids"), 2)]
    (own / "pids.max").write_text("100\n")
    assert cgroup.find(process) == []


def test_in_the_root_of_version_2_controllers_are_switched_on(tmp_path: Path) -> None:
    root = place(tmp_path / "v2", cgroup_controllers="cpu memory pids", cgroup_subtree_control="")
    group = place(root / PARENT / LEASE, memory_max="", memory_swap_max="", pids_max="", cpu_max="")
    (group / "memory.swap_max").rename(group / "memory.swap.max")
    place(root / PARENT, cgroup_subtree_control="")
    process = told(tmp_path, "0::/\n", V2.format(point=root))
    (found,) = cgroup.find(process)
    assert found == Hierarchy(root / PARENT, ("memory", "pids", "cpu"), 2)
    assert found.make(LEASE, LIMITS) == (group, ["memory", "pids", "cpu"])
    assert (group / "memory.max").read_text() == str(64 << 20)
    assert (group / "memory.swap.max").read_text() == "0"
    assert (group / "pids.max").read_text() == "10"
    assert (group / "cpu.max").read_text() == "25000 100000"
    assert "+" in (root / PARENT / "cgroup.subtree_control").read_text()


def test_a_hierarchy_without_its_files_limits_nothing(tmp_path: Path) -> None:
    hierarchy = Hierarchy(tmp_path / PARENT, ("memory", "pids", "cpu"), 2)
    assert hierarchy.make(LEASE, LIMITS) == (tmp_path / PARENT / LEASE, [])
    assert not list((tmp_path / PARENT / LEASE).iterdir())


@pytest.mark.parametrize(
    ("groups", "mounts"),
    [
        ("", ""),
        ("nonsense", "nonsense"),
        ("0::/", "31 20 0:2 / - cgroup2\n"),
        ("0::/../elsewhere\n", V2.format(point="/nowhere")),
        ("0::/a\n", "31 20 0:2 /b /nowhere rw - cgroup2 cgroup2 rw\n"),
        ("1:pids:/\n", V1.format(point="/nowhere", names="pids")),
        ("1:pids:/\n", V1.format(point="/proc", names="memory")),
    ],
)
def test_an_odd_hierarchy_is_no_hierarchy(tmp_path: Path, groups: str, mounts: str) -> None:
    assert cgroup.find(told(tmp_path, groups, mounts)) == []


def test_no_process_to_ask_about_means_no_groups(tmp_path: Path) -> None:
    assert cgroup.find(tmp_path) == []
    nothing = Groups((), ())
    assert nothing.join_files(LEASE, LIMITS, "one") == []
    nothing.end_command(LEASE, "one")
    nothing.end_lease(LEASE)


def test_a_group_that_does_not_go_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "END_S", 0.05)
    group = place(tmp_path / "stuck", cgroup_procs="0\n1\nnonsense\n")
    assert not cgroup.end(group)
    assert group.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b"])
def test_a_name_that_is_no_lease_ends_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / PARENT).mkdir()
    cgroup.end_lease(name, [tmp_path / PARENT])
    assert (tmp_path / PARENT).exists()
