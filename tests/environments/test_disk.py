"""What environments hold: the arithmetic of layers, and a real engine asked twice."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from tests.environments.conftest import MakeManager
from thunderctl import paths
from thunderctl.environments import disk
from thunderctl.environments.disk import folder_bytes, layer_sizes, layers_of
from thunderctl.environments.files import tree_archive
from thunderctl.environments.images import BASE
from thunderctl.environments.manager import EnvironmentManager
from thunderctl.environments.spec import EnvironmentSpec

MIB = 1024 * 1024


def test_build_steps_that_made_no_layer_do_not_count() -> None:
    layers = layers_of(["base", "a"])
    assert layer_sizes(layers, [100, 0, 7, 0], 107, {}) == [100, 7]


def test_where_steps_and_layers_do_not_match_the_rest_of_the_image_stands_at_its_highest_layer() -> None:
    layers = layers_of(["base", "empty", "a"])
    assert layer_sizes(layers, [100, 0, 7], 107, {layers[0]: 100}) == [100, 0, 7]
    assert layer_sizes(layers, [100, 0, 7], 107, {}) == [0, 0, 107]
    assert layer_sizes(layers, [100, 0, 7], 107, dict.fromkeys(layers, 3)) == [3, 3, 3]


def test_a_file_with_two_names_is_counted_once_and_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(os.urandom(MIB))
    empty = folder_bytes(folder)
    (folder / "file").write_bytes(os.urandom(MIB))
    os.link(folder / "file", folder / "inner" / "again")
    (folder / "away").symlink_to(tmp_path / "outside")
    assert MIB <= folder_bytes(folder) - empty < MIB + 64 * 1024


async def test_a_local_environment_counts_as_a_folder_and_after_its_end_as_collected(make_manager: MakeManager) -> None:
    manager = await make_manager()
    before = await manager.disk_usage(0.0)
    lease = await manager.request("p1", "r1", EnvironmentSpec())
    await manager.execute(lease.id, "head -c 3000000 /dev/urandom > data")
    await manager.release(lease.id)
    after = await manager.disk_usage(0.0)
    assert (before.bytes_now, before.collected_bytes, after.bytes_now) == (0, 0, 0)
    assert after.by_kind == {"folders": 0}
    assert 3_000_000 <= after.collected_bytes == manager.leases()[0].bytes < 4_000_000


# ------------------------------------------------------------------ on a real engine


@pytest.fixture
def engine(engine: docker.DockerClient, docker_image: str) -> docker.DockerClient:
    """One that has the base image."""
    return engine


@pytest.fixture
async def manager(engine: docker.DockerClient, make_manager: MakeManager) -> EnvironmentManager:
    return await make_manager(backend="docker")


@pytest.fixture(params=["folders are read", "the engine is asked"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "the engine is asked":
        monkeypatch.setattr(disk, "_readable", lambda folder: False)
    return str(request.param)


@pytest.mark.docker
async def test_what_a_command_writes_shows_in_the_next_sample_and_as_collected_after_the_end(
    manager: EnvironmentManager, way: str
) -> None:
    lease = await manager.request("p1", "r1", EnvironmentSpec(git=False))
    first = (await manager.disk_usage(0.0)).by_kind["containers"]
    await manager.execute(lease.id, "head -c 3000000 /dev/urandom > data")
    second = (await manager.disk_usage(0.0)).by_kind["containers"]
    await manager.execute(lease.id, "head -c 2000000 /dev/urandom > more")
    await manager.release(lease.id)
    end = await manager.disk_usage(0.0)
    assert 3_000_000 <= second - first < 3_100_000
    assert end.by_kind["containers"] == 0
    assert 2_000_000 <= end.collected_bytes - second < 2_100_000
    assert manager.leases()[0].bytes == end.collected_bytes


@pytest.mark.docker
async def test_an_environment_in_which_nothing_ran_is_not_walked_again(
    manager: EnvironmentManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[str] = []
    monkeypatch.setattr(disk.DockerDisk, "_measure", _noting(disk.DockerDisk._measure, walked))
    one = await manager.request("p1", "r1", EnvironmentSpec())
    two = await manager.request("p2", "r1", EnvironmentSpec())
    await manager.disk_usage(0.0)
    assert sorted(walked) == sorted(str(lease.place) for lease in (one, two))
    walked.clear()
    await manager.execute(two.id, "echo x > file")
    await manager.disk_usage(0.0)
    await manager.disk_usage(0.0)
    await manager.release(one.id)
    assert walked == [two.place]


def _noting(measure: Callable[..., None], walked: list[str]) -> Callable[..., None]:
    def noted(self: disk.DockerDisk, known: disk._Environment) -> None:
        walked.append(known.container)
        measure(self, known)

    return noted


@pytest.mark.docker
@pytest.mark.parametrize(("how", "kind"), [("built", "images"), ("prepared", "build cache")])
def test_only_layers_that_no_image_of_others_has_count_and_they_are_collected_with_the_image(
    engine: docker.DockerClient, home: Path, way: str, how: str, kind: str
) -> None:
    name = f"thunderctl-test/disk:{uuid.uuid4().hex[:8]}"
    container = engine.api.create_container(BASE, command=["true"], labels={"thunderctl.owner": paths.owner()})["Id"]
    try:
        folder = home / "layer"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(os.urandom(2_000_000))
        with tree_archive(folder, "/opt/layer", 0, 0) as archive:
            engine.api.put_archive(container, "/", archive)
        image = engine.api.commit(container, *name.split(":"))["Id"]
    finally:
        engine.api.remove_container(container, force=True, v=True)
    measured = disk.DockerDisk(engine, paths.owner(), "n1")
    brought = {name: {"id": image, "how": how}}
    try:
        held = measured.sizes(brought)
    finally:
        engine.images.remove(name)
    assert 2_000_000 <= held.by_kind[kind] < 2_100_000
    assert sum(held.by_kind.values()) == held.by_kind[kind]
    after = measured.sizes(brought)
    assert (after.by_kind[kind], after.gone_images) == (0, held.by_kind[kind])


@pytest.mark.docker
def test_an_anonymous_volume_is_its_environments(engine: docker.DockerClient, way: str) -> None:
    labels = {"thunderctl.owner": paths.owner(), "thunderctl.node": "n1", "thunderctl.lease": "l1"}
    container = engine.containers.create(
        BASE, command=["sh", "-c", "head -c 2000000 /dev/urandom >/data/x"], labels=labels, volumes=["/data"]
    )
    try:
        container.start()
        container.wait()
        held = disk.DockerDisk(engine, paths.owner(), "n1").sizes({})
    finally:
        container.remove(force=True, v=True)
    assert 2_000_000 <= held.by_kind["volumes"] < 2_100_000
    assert held.by_lease["l1"] == held.by_kind["volumes"] + held.by_kind["containers"]
