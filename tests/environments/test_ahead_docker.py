"""What is prepared before it is needed, on a real engine: layers of set-up, environments kept ready, images that go."""

from __future__ import annotations

import asyncio
import contextlib
import io
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import docker
import pytest

from tests.environments.conftest import MakeManager
from thunderctl import paths
from thunderctl.environments.image_store import record, write_down
from thunderctl.environments.images import BASE
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.environments.spec import EnvironmentSpec
from thunderctl.errors import EnvironmentFailure

pytestmark = pytest.mark.docker


@pytest.fixture
def engine(engine: docker.DockerClient, docker_image: str) -> docker.DockerClient:
    """One that has the base image."""
    return engine


@pytest.fixture
async def prepared_layers_go(engine: docker.DockerClient) -> AsyncIterator[None]:
    yield
    for name, known in record().items():
        if known.how == "prepared":
            engine.images.remove(name, force=True)


@pytest.fixture
def own_image(engine: docker.DockerClient) -> Iterator[str]:
    """An image with a layer of its own that this home has brought for the run ``r``."""
    name = f"thunderctl-test/own:{uuid.uuid4().hex[:8]}"
    engine.images.build(fileobj=io.BytesIO(f"FROM {BASE}\nRUN echo {name} > /own\n".encode()), tag=name, rm=True)
    write_down(name, engine.images.get(name).id, "built", "r")
    yield name
    with contextlib.suppress(docker.errors.ImageNotFound):
        engine.images.remove(name, force=True)


async def until(manager: EnvironmentManager, warm: int) -> None:
    async with asyncio.timeout(60):
        while sum(x.program == "" and x.state == "ready" for x in manager.leases()) != warm:
            await asyncio.sleep(0.05)


async def test_set_up_is_done_once_for_all_environments_like_it(
    make_manager: MakeManager, tmp_path: Path, prepared_layers_go: None
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "source.py").write_text("print('here')\n")
    spec = EnvironmentSpec(files=tmp_path / "files", setup=("cat /proc/sys/kernel/random/uuid > made",))
    manager = await make_manager(backend="docker")
    leases = await asyncio.gather(*(manager.request(f"p{n}", "r", spec) for n in range(3)))
    outputs = {(await manager.execute(lease.id, "cat made; git status --short")).output for lease in leases}
    assert len(outputs) == 1, "each ran its own set-up"
    await manager.execute(leases[0].id, "echo changed > made")
    late = await manager.request("late", "r", spec)
    assert (await manager.execute(late.id, "cat made; git status --short")).output == outputs.pop()


async def test_whoever_asks_for_the_kind_that_is_kept_ready_gets_it_with_its_own_files(
    make_manager: MakeManager, tmp_path: Path, engine: docker.DockerClient
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_text("mine")
    manager = await make_manager(backend="docker")
    manager.keep_warm("r", EnvironmentSpec(), 2)
    await until(manager, warm=2)
    kept = {x.place for x in manager.leases() if x.state == "ready"}
    lease = await manager.request("p", "r", EnvironmentSpec(files=tmp_path / "files"))
    assert lease.place in kept
    assert (await manager.execute(lease.id, "cat a; git status --short; git log --oneline | wc -l")).output == "mine1\n"
    await until(manager, warm=2)
    await manager.release_program("p")
    assert lease.place not in {each["Id"] for each in engine.api.containers(all=True)}
    assert [x.program for x in manager.leases(active=True)] == ["", ""]
    await manager.run_over("r")
    assert manager.leases(active=True) == []


async def test_an_environment_of_another_kind_is_made_for_itself(make_manager: MakeManager) -> None:
    manager = await make_manager(backend="docker")
    manager.keep_warm("r", EnvironmentSpec(), 1)
    await until(manager, warm=1)
    lease = await manager.request("p", "r", EnvironmentSpec(env={"A": "1"}))
    assert lease.place not in {x.place for x in manager.leases() if x.program == ""}


async def test_a_container_that_ends_by_itself_fails_its_lease_and_every_later_command_at_once(
    make_manager: MakeManager, engine: docker.DockerClient
) -> None:
    manager = await make_manager(backend="docker")
    killed, removed, kept = [await manager.request(name, "r", EnvironmentSpec()) for name in ("p", "q", "s")]
    engine.api.kill(killed.place)
    engine.api.remove_container(removed.place, force=True)
    async with asyncio.timeout(30):
        while {x.program for x in manager.leases(active=True)} != {"s"}:
            await asyncio.sleep(0.05)
    for lease in (killed, removed):
        with pytest.raises(EnvironmentFailure, match="container ended"):
            await manager.execute(lease.id, "true")
    assert (await manager.execute(kept.id, "echo well")).output == "well\n"


async def test_an_image_that_the_run_brought_goes_when_no_lease_needs_it(
    make_manager: MakeManager, engine: docker.DockerClient, own_image: str
) -> None:
    manager = await make_manager(backend="docker", image_policy="run")
    first, second = [await manager.request(name, "r", EnvironmentSpec(image=own_image)) for name in ("p", "q")]
    await manager.release(first.id)
    announced = manager.announce("late", "r", EnvironmentSpec(image=own_image))
    await manager.release(second.id)
    await manager._tidying.finish()
    assert engine.images.get(own_image), "an announced environment still needs it"
    await manager.release(announced.id)
    await manager.close()
    with pytest.raises(docker.errors.ImageNotFound):
        engine.images.get(own_image)
    assert own_image not in record() and engine.images.get(BASE), paths.home()
