"""What is collected from a real engine beside containers: networks, volumes, images; each after a second look."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.environments.conftest import dead_node, live_node
from tests.environments.test_images import root_tar
from thunderctl import paths
from thunderctl.environments import remains
from thunderctl.environments.collector import GcPlan, carry_out, plan
from thunderctl.environments.docker import connect
from thunderctl.environments.image_store import record, write_down
from thunderctl.environments.lease import LeaseLedger

pytestmark = pytest.mark.docker


@pytest.fixture
def engine(home: Path) -> Iterator[docker.DockerClient]:
    """An engine from which everything goes that carries the label of this test's home."""
    with contextlib.closing(connect()) as client:
        yield client
        ours = {"label": f"thunderctl.owner={paths.owner()}"}
        for container in client.api.containers(all=True, filters=ours):
            client.api.remove_container(container["Id"], v=True, force=True)
        for volume in client.api.volumes(filters=ours)["Volumes"] or []:
            client.api.remove_volume(volume["Name"])
        for network in client.api.networks(filters=ours):
            client.api.remove_network(network["Id"])
        for name in record():
            with contextlib.suppress(docker.errors.ImageNotFound):
                client.api.remove_image(name, force=True)


def labels(node: str, lease: str = "", owner: str = "") -> dict[str, str]:
    said = {"thunderctl.owner": owner or paths.owner(), "thunderctl.node": node}
    return {**said, "thunderctl.lease": lease} if lease else said


def name_of(what: str) -> str:
    return f"thunderctl-test-{what}-{uuid.uuid4().hex[:8]}"


def an_image(engine: docker.DockerClient, tmp_path: Path, *, used_s_ago: float = 0.0, run: str = "") -> str:
    """One that this home brought, of a layer of its own."""
    name = f"thunderctl-test/gc:{uuid.uuid4().hex[:8]}"
    repository, _, tag = name.partition(":")
    engine.api.import_image(str(root_tar(tmp_path / f"{tag}.tar")), repository=repository, tag=tag)
    with pytest.MonkeyPatch.context() as patch:
        then = time.time() - used_s_ago
        patch.setattr("thunderctl.environments.image_store.time.time", lambda: then)
        write_down(name, engine.images.get(name).id, "imported", run)
    return name


def of_kind(todo: GcPlan, kind: str) -> list[str]:
    return [item.id for item in todo.items if item.kind == kind]


@pytest.mark.parametrize("kind", ["network", "volume"])
def test_what_nobody_is_on_goes_with_its_dead_node_and_the_rest_stays(engine: docker.DockerClient, kind: str) -> None:
    dead_node("gone")
    live = live_node("lives")
    ledger = LeaseLedger(live / "state.db")
    lease = ledger.open("p", "r", "docker").id
    ledger.close()

    def make(said: dict[str, str]) -> str:
        if kind == "network":
            return str(engine.api.create_network(name_of("net"), labels=said, driver="bridge")["Id"])
        return str(engine.api.create_volume(name_of("vol"), labels=said)["Name"])

    mine, of_a_lease, of_a_node = make(labels("gone", "x")), make(labels("lives", lease)), make(labels("lives"))
    foreign = make(labels("gone", "x", owner="somebody-else"))
    young = make(labels("never-was"))
    try:
        todo = plan()
        assert of_kind(todo, kind) == [mine]
        reasons = {kept.item.id: kept.reason for kept in todo.kept}
        assert reasons[of_a_lease] == "leased by the live node lives"
        assert reasons[of_a_node] == "the node lives lives"
        assert "younger than 60 s" in reasons[young]
        result = carry_out(todo)
        assert [item.kind for item in result.removed] == [kind, "node"], result
        left = [each["Id"] for each in engine.api.networks()] + [
            each["Name"] for each in engine.api.volumes()["Volumes"] or []
        ]
        assert mine not in left and {of_a_lease, of_a_node, foreign, young} <= set(left)
    finally:
        if kind == "network":
            engine.api.remove_network(foreign)
        else:
            engine.api.remove_volume(foreign)


def test_what_only_a_collected_container_needs_is_in_the_same_plan(engine: docker.DockerClient, tmp_path: Path) -> None:
    dead_node("gone")
    image, volume = an_image(engine, tmp_path), name_of("vol")
    network = engine.api.create_network(name_of("net"), labels=labels("gone"), driver="bridge")["Id"]
    engine.api.create_volume(volume, labels=labels("gone"))
    host = engine.api.create_host_config(binds=[f"{volume}:/data"], network_mode=network)
    container = engine.api.create_container(image, ["/x"], host_config=host, labels=labels("gone", "y"))["Id"]
    todo = plan(images=True)
    assert [(item.kind, item.id) for item in todo.items] == [
        ("container", container), ("volume", volume), ("network", network), ("image", image), ("node", "gone"),
    ]  # fmt: skip
    result = carry_out(todo)
    assert result.removed == todo.items and not result.failed and not result.came_into_use
    assert plan(images=True).items == []


@pytest.mark.parametrize("kind", ["network", "volume"])
def test_what_a_container_came_to_need_since_the_plan_is_left_alone(
    engine: docker.DockerClient, tmp_path: Path, kind: str
) -> None:
    dead_node("gone")
    image = an_image(engine, tmp_path)
    if kind == "network":
        thing = engine.api.create_network(name_of("net"), labels=labels("gone"), driver="bridge")["Id"]
        host = engine.api.create_host_config(network_mode=thing)
    else:
        thing = engine.api.create_volume(name_of("vol"), labels=labels("gone"))["Name"]
        host = engine.api.create_host_config(binds=[f"{thing}:/data"])
    todo = plan()
    assert of_kind(todo, kind) == [thing]
    user = engine.api.create_container(image, ["/x"], host_config=host, name=name_of("user"))["Id"]
    try:
        result = carry_out(todo)
        assert [kept.item.id for kept in result.came_into_use] == [thing, "gone"]
        assert "used by thunderctl-test-user" in result.came_into_use[0].reason
        assert result.removed == []
    finally:
        engine.api.remove_container(user, force=True)


def test_images_go_only_when_asked_for_only_ours_and_only_what_nobody_needs(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    idle, used = an_image(engine, tmp_path), an_image(engine, tmp_path)
    others = f"thunderctl-test/others:{uuid.uuid4().hex[:8]}"
    engine.api.import_image(
        str(root_tar(tmp_path / "o.tar")), repository=others.partition(":")[0], tag=others.partition(":")[2]
    )
    user = engine.api.create_container(used, ["/x"])["Id"]
    try:
        assert plan().items == []
        todo = plan(images=True)
        assert [(item.kind, item.name, item.why) for item in todo.items] == [
            ("image", idle, "imported, and nobody needs it")
        ]
        result = carry_out(todo)
        assert [item.id for item in result.removed] == [idle]
        assert idle not in record() and used in record()
        assert engine.images.get(used) and engine.images.get(others)
    finally:
        engine.api.remove_container(user, force=True)
        engine.api.remove_image(others)


def test_an_age_and_a_run_narrow_images_down(engine: docker.DockerClient, tmp_path: Path) -> None:
    old = an_image(engine, tmp_path, used_s_ago=7200, run="one")
    older = an_image(engine, tmp_path, used_s_ago=9000, run="two")
    an_image(engine, tmp_path, used_s_ago=60, run="one")
    assert of_kind(plan(images=True, older_than_s=3600), "image") == [older, old]
    assert of_kind(plan(images=True, older_than_s=3600, run="one"), "image") == [old]


def test_an_image_that_was_used_since_the_plan_is_left_alone(engine: docker.DockerClient, tmp_path: Path) -> None:
    used, started = an_image(engine, tmp_path, used_s_ago=100), an_image(engine, tmp_path, used_s_ago=50)
    todo = plan(images=True)
    assert of_kind(todo, "image") == [used, started]
    write_down(used, engine.images.get(used).id, "imported")
    user = engine.api.create_container(started, ["/x"])["Id"]
    try:
        result = carry_out(todo)
        assert result.removed == []
        reasons = [kept.reason for kept in result.came_into_use]
        assert reasons[0] == "it was used since" and reasons[1].startswith("used by container")
    finally:
        engine.api.remove_container(user, force=True)


def test_bytes_of_images_that_share_layers_add_up_to_what_goes(engine: docker.DockerClient, tmp_path: Path) -> None:
    parent = an_image(engine, tmp_path)
    made = engine.api.create_container(parent, ["/x"])["Id"]
    child = f"thunderctl-test/gc:{uuid.uuid4().hex[:8]}"
    engine.api.put_archive(made, "/", root_tar(tmp_path / "more.tar").read_bytes())
    engine.api.commit(made, *child.split(":"))
    engine.api.remove_container(made)
    write_down(child, engine.images.get(child).id, "prepared")
    todo = plan(images=True)
    assert of_kind(todo, "image") == [child, parent]  # children first
    from thunderctl.environments.image_policy import image_bytes

    layers = image_bytes(engine)
    assert todo.bytes == layers.bytes([child, parent]) > 0
    assert [item.id for item in carry_out(todo).removed] == [child, parent]


def test_without_a_word_about_its_age_a_thing_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    from thunderctl.environments.remains_engine import _age

    assert _age(None) == _age("not a time") == 0.0 < remains.GRACE_S
    assert _age("2020-01-01T00:00:00.123456789Z") > remains.GRACE_S
