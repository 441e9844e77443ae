"""An engine that goes away and comes back while environments are in use: every call ends, the ledger stays true, and
work goes on. The engine is the test's own, since nobody else's may be stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import TypeVar

import docker
import psutil
import pytest

from tests.environments.conftest import MakeManager
from tests.environments.promises import until
from thunderctl import paths
from thunderctl.environments.docker import connect
from thunderctl.environments.images import BASE, Images
from thunderctl.environments.lease import State
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.environments.spec import EnvironmentSpec
from thunderctl.errors import EnvironmentFailure

pytestmark = pytest.mark.docker

T = TypeVar("T")
START_S = 60.0
HANGS_S = 40.0
"""Less than the shortest deadline of any command here: what ends sooner was ended by the engine's going."""


class OwnEngine:
    """A ``dockerd`` with sockets, state and images of its own, in ``folder``, and with a network namespace of its own:
    without one, ``--bridge=none`` takes the default bridge away from every other engine of the machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.host = f"unix://{folder}/docker.sock"

    def start(self, *options: str) -> None:
        (self._folder / "daemon.json").write_text("{}")  # not what this machine's own engine is told
        (self._folder / "docker.pid").unlink(missing_ok=True)  # a killed engine leaves it, and the next would refuse
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "unshare", "--net", "dockerd", f"--host={self.host}", f"--data-root={self._folder}/data",
                    f"--exec-root={self._folder}/exec", f"--pidfile={self._folder}/docker.pid", "--bridge=none",
                    "--iptables=false", "--ip6tables=false", "--shutdown-timeout=5",
                    f"--config-file={self._folder}/daemon.json",
                    f"--containerd-namespace=own-{os.getpid()}", f"--containerd-plugins-namespace=own-p-{os.getpid()}",
                    *options,
                ],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + START_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"dockerd does not start:\n{(self._folder / 'log').read_text()[-3000:]}")
            time.sleep(0.1)

    def answers(self) -> bool:
        try:
            with contextlib.closing(docker.DockerClient(base_url=self.host, timeout=5)) as client:
                return bool(client.ping())
        except (docker.errors.DockerException, OSError):
            return False

    def stop(self, sent: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(sent)
            self._process.wait()
            self._process = None
        # Its containerd goes with it. While that waits to be reaped, the next engine would take its pid for a live one.
        until(lambda: not any(_lives(each) for each in self._processes("containerd")))
        (self._folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def _processes(self, name: str) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.name().startswith(name) and str(self._folder) in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def close(self) -> None:
        try:
            if self._process is None:
                self.start()
            with contextlib.closing(docker.DockerClient(base_url=self.host)) as client:
                for container in client.containers.list(all=True):
                    container.remove(force=True)
            self.stop()
        finally:
            for shim in self._processes("containerd-shim"):  # of an engine that did not come back
                for process in [*shim.children(recursive=True), shim]:
                    process.kill()
            mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
            for place in [each for each in mounted if each.startswith(f"{self._folder}/")][::-1]:
                subprocess.run(["umount", "--lazy", place], check=False)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.name() == "containerd" and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEngine]:
    if os.geteuid() != 0:
        pytest.skip("an engine of the test's own can be started by root only")
    if shutil.which("dockerd") is None:
        pytest.skip("dockerd is not installed here: this machine's engine belongs to another one")
    own = OwnEngine(tmp_path_factory.mktemp("e"))
    with contextlib.closing(connect()) as shared, pytest.MonkeyPatch.context() as patch:
        patch.setenv("THUNDERCTL_HOME", str(tmp_path_factory.mktemp("h")))
        Images(shared).ensure(BASE)
        own.start()
        with contextlib.closing(docker.DockerClient(base_url=own.host, timeout=300)) as client:
            client.images.load(shared.images.get(BASE).save(named=True))
    yield own
    own.close()


@pytest.fixture
async def manager(engine: OwnEngine, make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch) -> EnvironmentManager:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    return await make_manager(backend="docker")


async def soon(work: Awaitable[T]) -> T:
    """What ``work`` comes to; a call that hangs fails the test."""
    return await asyncio.wait_for(work, HANGS_S)


async def reached(manager: EnvironmentManager, lease: str, *states: State) -> None:
    async def look() -> None:
        while next(each for each in manager.leases() if each.id == lease).state not in states:
            await asyncio.sleep(0.02)

    await soon(look())


async def begun(manager: EnvironmentManager, lease: str) -> None:
    async def look() -> None:
        while True:
            with contextlib.suppress(EnvironmentFailure):
                await manager.read_file(lease, "begun")
                return
            await asyncio.sleep(0.05)

    await soon(look())


def ours(engine: OwnEngine) -> list[str]:
    with contextlib.closing(docker.DockerClient(base_url=engine.host)) as client:
        found = client.containers.list(all=True, filters={"label": f"thunderctl.owner={paths.owner()}"})
        return [str(each.name) for each in found]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_an_engine_that_restarts_ends_what_ran_and_later_requests_work_again(
    engine: OwnEngine, manager: EnvironmentManager, sent: int
) -> None:
    used, idle = [await manager.request(name, "r", EnvironmentSpec()) for name in ("used", "idle")]
    command = asyncio.create_task(manager.execute(used.id, "touch begun; sleep 1000", timeout_s=900))
    await begun(manager, used.id)
    slow = asyncio.create_task(manager.request("slow", "r", EnvironmentSpec(setup=("sleep 1000",))))
    while not any(lease.program == "slow" and lease.place for lease in manager.leases()):
        await asyncio.sleep(0.02)
    await asyncio.to_thread(engine.stop, sent)
    for call in (command, slow, manager.execute(idle.id, "true"), manager.request("late", "r", EnvironmentSpec())):
        with pytest.raises(EnvironmentFailure):
            await soon(call)
    assert {lease.program for lease in manager.leases()} == {"used", "idle", "slow", "late"}
    await asyncio.to_thread(engine.start)
    for lease in (used, idle):
        await reached(manager, lease.id, "failed", "reclaimed")
        with pytest.raises(EnvironmentFailure, match="nothing can be done in it"):
            await soon(manager.execute(lease.id, "true"))
    fresh = await soon(manager.request("fresh", "r", EnvironmentSpec()))
    assert (await soon(manager.execute(fresh.id, "echo on"))).output == "on\n"
    await soon(manager.close())
    assert ours(engine) == []
    assert {lease.state for lease in manager.leases()} == {"reclaimed"}


async def test_where_containers_outlive_the_engine_environments_go_on_after_it(
    engine: OwnEngine, manager: EnvironmentManager
) -> None:
    await asyncio.to_thread(engine.stop)
    await asyncio.to_thread(engine.start, "--live-restore")
    lease = await soon(manager.request("p", "r", EnvironmentSpec()))
    command = asyncio.create_task(manager.execute(lease.id, "touch begun; sleep 1000", timeout_s=900))
    await begun(manager, lease.id)
    await asyncio.to_thread(engine.stop)
    with pytest.raises(EnvironmentFailure):
        await soon(command)
    with pytest.raises(EnvironmentFailure):
        await soon(manager.execute(lease.id, "true"))
    await asyncio.to_thread(engine.start, "--live-restore")
    assert (await soon(manager.execute(lease.id, "ls begun"))).output == "begun\n"
    with contextlib.closing(
        docker.DockerClient(base_url=engine.host)
    ) as client:  # the next command ends its forerunner
        rows = client.api.top(lease.place, ps_args="-eo pid,args")["Processes"]
        assert not [row for row in rows if "sleep 1000" in row[-1]]
    assert [each.state for each in manager.leases()] == ["in_use"]
    await soon(manager.close())
    assert ours(engine) == []


async def test_a_daemon_that_starts_while_the_engine_is_away_says_so_and_the_next_one_clears_up(
    engine: OwnEngine, manager: EnvironmentManager, make_manager: MakeManager
) -> None:
    lease = await manager.request("p", "r", EnvironmentSpec())
    await asyncio.to_thread(engine.stop)
    with pytest.raises(EnvironmentFailure, match="could not be reclaimed"):
        await soon(manager.close())
    assert [each.state for each in manager.leases()] == ["failed"]
    await asyncio.to_thread(engine.start)
    heir = await make_manager(backend="docker", take_over=True)
    assert [(each.id, each.state) for each in heir.leases()] == [(lease.id, "reclaimed")]
    assert ours(engine) == []
