"""The Docker back-end against a real engine: hardening as the engine reports it, deadlines, and what is left after."""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.environments.conftest import MakeManager
from tests.environments.test_collector import KILLED_DAEMON, child_env
from thunderctl import paths
from thunderctl.environments.collector import carry_out, plan
from thunderctl.environments.container import KEPT_CAPABILITIES
from thunderctl.environments.docker import KEEPER, DockerBackend, connect
from thunderctl.environments.images import BASE
from thunderctl.environments.lease import Lease
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.environments.network import network_name
from thunderctl.environments.spec import EnvironmentSpec, Limits, Mount
from thunderctl.errors import EnvironmentFailure

pytestmark = pytest.mark.docker


@pytest.fixture
async def manager(make_manager: MakeManager, docker_image: str) -> AsyncIterator[EnvironmentManager]:
    made = await make_manager(backend="docker")
    yield made
    await made.close()
    with contextlib.closing(connect()) as client:
        label = f"thunderctl.owner={paths.owner()}"
        assert client.containers.list(all=True, filters={"label": label}) == []


@pytest.fixture
def volume_image(engine: docker.DockerClient, docker_image: str) -> Iterator[str]:
    """An image that makes an anonymous volume, has a user of its own, an entry point and a health check."""
    name = f"thunderctl-test/volume:{uuid.uuid4().hex[:8]}"
    text = (
        f"FROM {docker_image}\nRUN useradd -m agent\nVOLUME /data\nUSER agent\n"
        'ENTRYPOINT ["/bin/false"]\nHEALTHCHECK CMD touch /tmp/checked\n'
    )
    engine.images.build(fileobj=io.BytesIO(text.encode()), tag=name, rm=True)
    yield name
    engine.images.remove(name, force=True)


def inspect(engine: docker.DockerClient, lease: Lease) -> dict[str, Any]:
    told: dict[str, Any] = engine.api.inspect_container(lease.place)
    return told


def processes(engine: docker.DockerClient, lease: Lease) -> list[str]:
    """What runs in the container. Who is dead already has a few seconds to be collected by its init process."""
    for _ in range(100):
        rows = engine.api.top(lease.place, ps_args="-eo pid,args")["Processes"]
        found = sorted(row[-1] for row in rows)
        if not any("<defunct>" in line for line in found):
            break
        time.sleep(0.05)
    return found


KEEPERS = ["/sbin/docker-init -- sleep infinity", "sleep infinity"]


def specs(name: str, mounted: Path) -> EnvironmentSpec:
    limits = Limits(cpus=0.5, memory_mib=128, pids=40, disk_mib=64)
    more: dict[str, Any] = {
        "bare": {},
        "set up, as another user": {"setup": ("echo 1 > a",), "user": "1000:1000", "workdir": "/srv/work"},
        "with a mount": {"mounts": (Mount(mounted, "/data"),)},
        "with a server": {"network": "bridge", "ports": (8000,)},
    }
    return EnvironmentSpec(limits=limits, **more[name])


@pytest.mark.parametrize("name", ["bare", "set up, as another user", "with a mount", "with a server"])
async def test_a_container_is_hardened_as_the_engine_reports_it(
    manager: EnvironmentManager, engine: docker.DockerClient, tmp_path: Path, name: str
) -> None:
    (tmp_path / "data").mkdir()
    spec = specs(name, tmp_path / "data")
    lease = await manager.request("p1", "r1", spec)
    told = inspect(engine, lease)
    host = told["HostConfig"]
    assert not KEPT_CAPABILITIES
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["PidsLimit"] == 40
    assert host["Memory"] == host["MemorySwap"] == 128 * 1024 * 1024
    assert host["NanoCpus"] == 500_000_000
    bridge = spec.network == "bridge"
    assert host["NetworkMode"] == (network_name(paths.owner()) if bridge else "none")
    assert list(told["NetworkSettings"]["Networks"]) == [host["NetworkMode"]]
    on = [each for bindings in told["NetworkSettings"]["Ports"].values() for each in bindings or []]
    assert [each["HostIp"] for each in on] == ["127.0.0.1"] * len(spec.ports)
    assert host["Init"] is True
    assert not host["Privileged"]
    assert not host["Binds"]
    assert [(each["Source"], each["RW"]) for each in told["Mounts"]] == [(str(m.source), False) for m in spec.mounts]
    assert not host["Devices"] and not host["DeviceRequests"]
    assert host["IpcMode"] == "private" and host["PidMode"] == "" and host["UTSMode"] == ""
    assert host["ShmSize"] == 64 * 1024 * 1024
    assert {each["Name"]: each["Hard"] for each in host["Ulimits"]} == {
        "core": 0, "nofile": 4096, "fsize": 64 * 1024 * 1024,
    }  # fmt: skip
    assert host["RestartPolicy"]["Name"] in ("", "no")
    assert host["OomKillDisable"] is not True
    assert host["OomScoreAdj"] == 500
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(host["MaskedPaths"])
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(host["ReadonlyPaths"])
    assert told["Config"]["User"] == KEEPER
    assert told["Name"] == f"/thunderctl-{lease.id}"
    labels = {key: value for key, value in told["Config"]["Labels"].items() if key.startswith("thunderctl.")}
    assert float(labels.pop("thunderctl.created")) == pytest.approx(lease.created, abs=0.01)
    assert labels == {
        "thunderctl.owner": paths.owner(),
        "thunderctl.node": "n1",
        "thunderctl.run": "r1",
        "thunderctl.program": "p1",
        "thunderctl.lease": lease.id,
    }


async def test_the_kernel_enforces_what_the_engine_reports(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec(limits=Limits(memory_mib=64, pids=20)))
    done = await manager.execute(
        lease.id,
        "grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status | tr -d '\\t '; ls /sys/class/net; "
        "python3 -c 'x = bytearray(1 << 28)'; echo code $?",
    )
    assert done.output.split("\n")[:5] == [
        "CapEff:0000000000000000", "CapBnd:0000000000000000", "NoNewPrivs:1", "Seccomp:2", "lo",
    ]  # fmt: skip
    assert done.output.rstrip().endswith("code 137")
    assert (await manager.execute(lease.id, "echo alive")).output == "alive\n"


async def test_bundled_work_needs_no_capability(manager: EnvironmentManager, tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.py").write_text("one = 1\n")
    (tmp_path / "f" / "l.py").symlink_to("a.py")
    lease = await manager.request("p", "r", EnvironmentSpec(files=tmp_path / "f", setup=("echo s > setup",)))
    done = await manager.execute(
        lease.id,
        "set -e; pwd; cat l.py setup; sed -i s/1/2/ a.py; git stash -q; git stash pop -q; git diff; chmod 700 a.py; "
        "tar cz . | tar tz >/dev/null; cp -a . /tmp/copy; git apply -R <(git diff); git status --short; "
        "python -m unittest --help >/dev/null",
    )
    assert done.returncode == 0, done.output
    assert done.output.startswith("/testbed\none = 1\ns\n")
    assert "-one = 1\n+one = 2\n" in done.output


async def test_the_same_files_give_the_same_commit_as_locally(
    manager: EnvironmentManager, make_manager: MakeManager, tmp_path: Path
) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.py").write_text("one = 1\n")
    spec = EnvironmentSpec(files=tmp_path / "f")
    local = await make_manager("n2")
    hashes = set()
    for each in (manager, local):
        lease = await each.request("p", "r", spec)
        hashes.add((await each.execute(lease.id, "git rev-parse HEAD")).output)
    assert len(hashes) == 1


async def test_the_environment_of_a_command_is_what_was_asked_for(
    manager: EnvironmentManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET_KEY", "do-not-tell")
    lease = await manager.request("p", "r", EnvironmentSpec(env={"FROM_SPEC": "1"}))
    done = await manager.execute(lease.id, "env", env={"FROM_CALL": "2"})
    assert "do-not-tell" not in done.output
    assert "FROM_SPEC=1" in done.output and "FROM_CALL=2" in done.output


@pytest.mark.parametrize(
    "command",
    [
        "sleep 1000",
        "trap '' TERM INT HUP; while :; do sleep 1; done",
        "(setsid sleep 1000 >/dev/null 2>&1 &); sleep 1000",
        "env -i setsid sh -c 'sleep 1000 & sleep 1000' & sleep 1000",
        "yes",
    ],
    ids=["plain", "ignores-sigterm", "double-fork", "clears-its-mark", "endless-output"],
)
async def test_at_the_deadline_the_whole_tree_dies_and_the_container_lives(
    manager: EnvironmentManager, engine: docker.DockerClient, command: str
) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec(limits=Limits(output_bytes=1000)))
    done = await manager.execute(lease.id, f"echo first; {command}", timeout_s=0.5)
    assert done.timed_out
    assert done.returncode in (124, 137)
    assert done.output.startswith("first\n")
    assert len(done.output) < 1200
    assert processes(engine, lease) == KEEPERS
    assert (await manager.execute(lease.id, "echo next")).output == "next\n"


async def test_a_fork_bomb_is_bounded_and_ends_at_the_deadline(
    manager: EnvironmentManager, engine: docker.DockerClient
) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec(limits=Limits(pids=50, output_bytes=1000)))
    done = await manager.execute(lease.id, "bomb() { bomb | bomb & }; bomb; sleep 1000", timeout_s=1)
    assert done.timed_out or done.returncode != 0
    assert processes(engine, lease) == KEEPERS
    assert (await manager.execute(lease.id, "echo next")).output == "next\n"


async def test_a_tool_that_kills_everything_it_can_kills_neither_container_nor_deadline(
    manager: EnvironmentManager, engine: docker.DockerClient
) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    await manager.execute(lease.id, "trap '' HUP; kill -9 -1; sleep 1000", timeout_s=1)
    assert processes(engine, lease) == KEEPERS
    assert (await manager.execute(lease.id, "echo next")).output == "next\n"


async def test_a_background_process_ends_with_its_command(
    manager: EnvironmentManager, engine: docker.DockerClient
) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    done = await manager.execute(lease.id, "setsid sleep 1000 & echo done", timeout_s=500)
    assert (done.output, done.returncode, done.timed_out) == ("done\n", 0, False)
    assert processes(engine, lease) == KEEPERS


async def test_a_cancelled_command_is_killed(manager: EnvironmentManager, engine: docker.DockerClient) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    running = asyncio.create_task(manager.execute(lease.id, "(setsid sleep 1000 &); sleep 1000"))
    while processes(engine, lease).count("sleep 1000") < 2:
        await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert processes(engine, lease) == KEEPERS


async def test_a_container_that_dies_is_noticed_while_its_command_runs(
    manager: EnvironmentManager, engine: docker.DockerClient
) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    running = asyncio.create_task(manager.execute(lease.id, "sleep 1000", timeout_s=900))
    while "sleep 1000" not in processes(engine, lease):
        await asyncio.sleep(0.02)
    engine.api.kill(lease.place)
    with pytest.raises(EnvironmentFailure, match="killed from outside, code 137"):
        await running


async def test_a_cancelled_request_leaves_no_container(
    manager: EnvironmentManager, engine: docker.DockerClient
) -> None:
    asked = [asyncio.create_task(manager.request(f"p{n}", "r", EnvironmentSpec())) for n in range(4)]
    while not any(lease.state == "preparing" for lease in manager.leases()):
        await asyncio.sleep(0.005)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert {lease.state for lease in manager.leases()} == {"reclaimed"}
    assert engine.containers.list(all=True, filters={"label": f"thunderctl.owner={paths.owner()}"}) == []


async def test_files_go_in_and_out_below_the_working_directory(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    await manager.put_files(lease.id, {"deep/er/x.bin": bytes(range(256)), "top": b"t"})
    assert await manager.read_file(lease.id, "deep/er/x.bin") == bytes(range(256))
    assert (await manager.execute(lease.id, "cat top; rm -r deep; ln -s /etc deep; ln -s top l")).output == "t"
    await manager.put_files(lease.id, {"deep/er/y": b"y"})
    assert (await manager.execute(lease.id, "test -L deep; echo $?; ls deep; ls /etc/er")).output.startswith("1\ner\n")
    for name in ("../x", "/etc/x"):
        with pytest.raises(EnvironmentFailure, match="does not stay inside"):
            await manager.put_files(lease.id, {name: b""})
    for name, why in (("l", "not a file"), ("deep", "not a file"), ("nothing", "there is no file")):
        with pytest.raises(EnvironmentFailure, match=why):
            await manager.read_file(lease.id, name)
    await manager.execute(lease.id, "truncate -s 8G huge")
    with pytest.raises(EnvironmentFailure, match="8589934592 bytes"):
        await manager.read_file(lease.id, "huge")


async def test_an_image_with_a_user_a_volume_and_an_entry_point_works_and_loses_its_volume(
    manager: EnvironmentManager, engine: docker.DockerClient, volume_image: str, tmp_path: Path
) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a").write_text("a")
    lease = await manager.request("p", "r", EnvironmentSpec(image=volume_image, files=tmp_path / "f"))
    done = await manager.execute(lease.id, "id -un; echo b >> a; stat -c %U a; kill -9 -1; echo on; ls /tmp")
    assert done.output == "agent\nagent\non\n"
    (mount,) = inspect(engine, lease)["Mounts"]
    await manager.release(lease.id)
    with pytest.raises(docker.errors.NotFound):
        engine.volumes.get(mount["Name"])


async def test_a_working_directory_that_the_image_lacks_belongs_to_the_images_user(
    manager: EnvironmentManager, volume_image: str
) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec(image=volume_image, workdir="/srv/here"))
    assert (await manager.execute(lease.id, "pwd; stat -c %U .; touch x")).output == "/srv/here\nagent\n"


async def test_reclaiming_what_somebody_removed_already_is_fine(
    manager: EnvironmentManager, engine: docker.DockerClient
) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    engine.api.remove_container(lease.place, force=True)
    assert (await manager.release(lease.id)).state == "reclaimed"


async def test_an_image_that_cannot_be_had_is_named(manager: EnvironmentManager) -> None:
    with pytest.raises(EnvironmentFailure, match=r"localhost:1/no/such:image .*could not be pulled"):
        await manager.request("p", "r", EnvironmentSpec(image="localhost:1/no/such:image"))


async def test_disk_usage_counts_the_writable_layer(manager: EnvironmentManager) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    await manager.execute(lease.id, "head -c 3000000 /dev/urandom > data")
    usage = await manager.disk_usage()
    assert usage.by_kind["containers"] >= 3_000_000
    assert manager.leases()[0].bytes >= 3_000_000


async def test_a_new_daemon_of_the_node_clears_away_what_the_old_one_left(
    make_manager: MakeManager, docker_image: str, engine: docker.DockerClient
) -> None:
    first = await make_manager(backend="docker")
    lease = await first.request("p", "r", EnvironmentSpec())
    second = await make_manager(backend="docker")
    assert second.leases()[0].state == "reclaimed"
    with pytest.raises(docker.errors.NotFound):
        engine.containers.get(lease.place or "")


async def test_the_backend_can_be_asked_for_the_base_image_twice_at_once(home: Path, docker_image: str) -> None:
    backend = DockerBackend("o", "n")
    assert await backend.available() is None
    await asyncio.gather(*(backend.ensure_image(BASE) for _ in range(3)))
    await backend.close()


def test_a_killed_daemons_containers_are_collected_and_foreign_ones_are_not(
    tmp_path: Path, docker_image: str, volume_image: str, engine: docker.DockerClient
) -> None:
    foreign = engine.containers.create(
        volume_image, labels={"thunderctl.owner": "somebody-else", "thunderctl.lease": "x"}
    )
    unlabelled = engine.containers.create(docker_image, ["true"])
    volume = engine.volumes.create(f"thunderctl-test-{uuid.uuid4().hex[:8]}")
    script = tmp_path / "daemon.py"
    script.write_text(KILLED_DAEMON.replace("EnvironmentSpec()", f"EnvironmentSpec(image={volume_image!r})"))
    daemon = subprocess.Popen([sys.executable, str(script), "docker"], stdout=subprocess.PIPE, env=child_env())
    try:
        assert daemon.stdout is not None
        lease = daemon.stdout.readline().decode().strip()
        ours = engine.containers.get(f"thunderctl-{lease}")
        anonymous = ours.attrs["Mounts"][0]["Name"]
        assert plan().items == []
        daemon.kill()
        daemon.wait()
        daemon.stdout.close()
        todo = plan()
        assert [(item.kind, item.id) for item in todo.items] == [
            ("container", ours.id), ("volume", anonymous), ("node", "n1"),
        ]  # fmt: skip
        assert todo.items[0].program == "p"
        result = carry_out(todo)
        assert [item.kind for item in result.removed] == ["container", "volume", "node"], result
        with pytest.raises(docker.errors.NotFound):
            engine.containers.get(ours.id)
        with pytest.raises(docker.errors.NotFound):
            engine.volumes.get(anonymous)
        assert plan().items == []
        foreign.reload()
        unlabelled.reload()
        volume.reload()
        assert engine.volumes.get(foreign.attrs["Mounts"][0]["Name"])
    finally:
        daemon.kill()
        foreign.remove(v=True, force=True)
        unlabelled.remove(v=True, force=True)
        volume.remove()


def test_a_container_whose_node_is_unknown_waits_for_the_grace(docker_image: str, engine: docker.DockerClient) -> None:
    labels = {"thunderctl.owner": paths.owner(), "thunderctl.node": "never-was", "thunderctl.lease": "x"}
    young = engine.containers.create(docker_image, ["true"], labels=labels)
    try:
        todo = plan()
        assert todo.items == []
        (kept,) = todo.kept
        assert kept.item.id == young.id
        assert "never-was is unknown, but it is younger than 60 s" in kept.reason
    finally:
        young.remove(force=True)
