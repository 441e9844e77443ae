"""The record survives versions, threads and torn files; removal looks again and takes nothing that is not ours."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest

from tests.environments.conftest import dead_node, live_node
from tests.environments.test_images import root_tar
from thunderctl.environments.image_policy import image_bytes, let_go
from thunderctl.environments.image_store import (
    brought,
    image_lock,
    images_in_use,
    note_use,
    record,
    remove_images,
    write_down,
)
from thunderctl.environments.images import Images
from thunderctl.environments.lease import LeaseLedger
from thunderctl.environments.turns import held
from thunderctl.profile import ToolEnvironmentSpec


def test_a_record_of_an_earlier_version_is_understood(home: Path) -> None:
    home.mkdir()
    (home / "images.json").write_text('{"x:1": {"id": "sha256:1", "how": "pulled", "when": 7.0}, "torn": 3}')
    (known,) = record().values()
    assert (known.name, known.id, known.how, known.run, known.last_used) == ("x:1", "sha256:1", "pulled", "", 7.0)


def test_what_this_version_does_not_know_stays_in_the_file(home: Path) -> None:
    home.mkdir()
    (home / "images.json").write_text('{"x:1": {"id": "1", "how": "pulled", "when": 7.0, "colour": "blue"}}')
    note_use("x:1")
    assert brought()["x:1"]["colour"] == "blue"
    assert record()["x:1"].last_used > 7.0


def test_a_broken_record_is_put_aside_and_not_thrown_away(home: Path) -> None:
    home.mkdir()
    (home / "images.json").write_text('{"x:1": ')
    assert record() == {}
    write_down("y:1", "2", "built")
    assert record().keys() == {"y:1"}
    (aside,) = home.glob("images.json.broken-*")
    assert aside.read_text() == '{"x:1": '


def test_many_who_write_at_once_lose_nothing(home: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: write_down(f"x:{n}", str(n), "pulled", "r"), range(40)))
    assert len(record()) == 40


def test_a_use_of_an_image_that_is_not_ours_is_not_written_down(home: Path) -> None:
    note_use("python:3.11")
    assert not (home / "images.json").exists()


@pytest.fixture
def image(engine: docker.DockerClient, tmp_path: Path) -> Iterator[str]:
    """An image in the record."""
    name = f"thunderctl-test/store:{uuid.uuid4().hex[:8]}"
    engine.api.import_image_from_file(str(root_tar(tmp_path / "r.tar")), *name.split(":"))
    write_down(name, str(engine.images.get(name).id), "pulled", "r1")
    yield name
    for container in engine.containers.list(all=True, filters={"label": f"thunderctl-test={name}"}):
        container.remove(force=True)
    for left in engine.images.list("thunderctl-test/store"):
        if name in left.tags:
            engine.images.remove(name)


@pytest.mark.docker
def test_an_image_of_the_record_is_removed_and_forgotten(engine: docker.DockerClient, image: str) -> None:
    done = remove_images(engine, [image])
    assert (done.removed, done.kept) == ([image], {})
    assert record() == {}
    with pytest.raises(docker.errors.ImageNotFound):
        engine.images.get(image)


@pytest.mark.docker
def test_what_a_stopped_container_of_somebody_else_uses_stays(engine: docker.DockerClient, image: str) -> None:
    engine.containers.create(image, ["x"], labels={"thunderctl-test": image})
    assert images_in_use(engine)[image].startswith("container ")
    done = remove_images(engine, [image])
    assert done.kept[image].startswith("used by container ")
    assert image in record()


@pytest.mark.docker
def test_what_the_engine_will_not_let_go_stays(
    engine: docker.DockerClient, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that came between the look and the removal: here, the look is blind."""
    engine.containers.create(image, ["x"], labels={"thunderctl-test": image})
    monkeypatch.setattr("thunderctl.environments.image_store.images_in_use", lambda client: {})
    done = remove_images(engine, [image])
    assert done.kept[image].startswith("the engine keeps it: ")
    assert image in record()


@pytest.mark.docker
def test_what_an_active_lease_names_stays_and_dead_nodes_protect_nothing(
    engine: docker.DockerClient, image: str
) -> None:
    ledger = LeaseLedger(live_node("n1") / "state.db")
    lease = ledger.open("p", "r", "docker", image)
    assert remove_images(engine, [image]).kept == {image: f"used by lease {lease.id}"}
    ledger.move(lease.id, "reclaimed")
    ledger.close()
    dead = LeaseLedger(dead_node("n2") / "state.db")
    dead.open("p", "r", "docker", image)
    dead.close()
    assert remove_images(engine, [image]).removed == [image]


@pytest.mark.docker
def test_a_lease_that_names_an_image_by_its_source_protects_it_too(engine: docker.DockerClient, tmp_path: Path) -> None:
    file = root_tar(tmp_path / "root.tar")
    name = Images(engine).ensure(f"import:{file}")
    ledger = LeaseLedger(live_node("n1") / "state.db")
    lease = ledger.open("p", "r", "docker", f"import:{file}")
    ledger.open("p", "r", "docker", f"import:{file}.gone")
    assert images_in_use(engine) == {name: f"lease {lease.id}"}
    ledger.move(lease.id, "reclaimed")
    ledger.close()
    assert remove_images(engine, [name]).removed == [name]


@pytest.mark.docker
def test_an_image_that_somebody_put_under_our_name_is_theirs(
    engine: docker.DockerClient, image: str, tmp_path: Path
) -> None:
    old = str(engine.images.get(image).id)
    engine.api.import_image_from_file(str(root_tar(tmp_path / "other.tar")), *image.split(":"))
    try:
        assert "somebody else" in remove_images(engine, [image]).kept[image]
        assert engine.images.get(image).id != old
        assert image not in record()
    finally:
        engine.api.remove_image(old)


@pytest.mark.docker
def test_what_is_just_becoming_an_environment_and_what_is_not_in_the_record_stay(
    engine: docker.DockerClient, image: str
) -> None:
    with held(image_lock(image)):
        assert "just being made" in remove_images(engine, [image]).kept[image]
    assert remove_images(engine, ["thunderctl-test/foreign:1"]).kept == {
        "thunderctl-test/foreign:1": "not brought by this home"
    }


@pytest.mark.docker
@pytest.mark.parametrize(
    ("settings", "goes"),
    [
        ({"image_policy": "keep", "image_budget_gib": 1e-9}, False),
        ({"image_policy": "run"}, True),
        ({"image_policy": "budget", "image_budget_gib": 1}, False),
        ({"image_policy": "budget", "image_budget_gib": 1e-9}, True),
    ],
)
def test_the_profile_says_what_becomes_of_images(
    engine: docker.DockerClient, image: str, settings: dict[str, object], goes: bool
) -> None:
    said = ToolEnvironmentSpec.model_validate(settings)
    assert let_go(engine, None, said, "another run").removed == (
        [image] if goes and "budget" in settings.values() else []
    )
    if image in record():
        assert let_go(engine, None, said, "r1").removed == ([image] if goes else [])


@pytest.mark.docker
def test_an_image_that_is_gone_already_is_forgotten(engine: docker.DockerClient, image: str) -> None:
    engine.images.remove(image)
    assert remove_images(engine, [image]).removed == [image]
    assert record() == {}


@pytest.mark.docker
def test_bytes_tell_a_child_from_its_parent_and_leave_out_what_others_have(
    engine: docker.DockerClient, image: str, home: Path
) -> None:
    made = engine.api.create_container(image, ["x"], labels={"thunderctl-test": image})["Id"]
    with (home / "more.tar").open("w+b") as more:
        root_tar(Path(more.name))
        engine.api.put_archive(made, "/", Path(more.name).read_bytes())
    repository, tag = image.split(":")
    child = f"{repository}:{tag}-child"
    child_id = engine.api.commit(made, repository, f"{tag}-child")["Id"]
    try:
        alone = image_bytes(engine)
        assert alone.unique(image) == 0, "a child of somebody else has it too"
        write_down(child, child_id, "prepared")
        both = image_bytes(engine)
        assert both.layers[child][:-1] == both.layers[image]
        assert both.unique(child) > 0
        assert both.shared(child) == both.shared(image) > 0
        assert both.bytes([image, child]) == both.unique(child) + both.shared(image)
    finally:
        engine.api.remove_container(made)
        engine.api.remove_image(child)
    assert json.loads((home / "images.json").read_text()).keys() == {image, child}
