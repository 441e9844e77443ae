"""Set-up layers: what the key covers, and that the kept image looks like the one below it and not like a lease."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest

from thunderctl import paths
from thunderctl.environments.docker import KEEPER, connect
from thunderctl.environments.image_store import record
from thunderctl.environments.images import BASE, Images
from thunderctl.environments.prepared import find_prepared, keep_prepared, prepared_key, workspace_key
from thunderctl.environments.remains_engine import find_containers
from thunderctl.environments.spec import EnvironmentSpec, Mount


def test_without_commands_there_is_nothing_to_keep() -> None:
    assert prepared_key("sha256:1", EnvironmentSpec()) is None


def test_what_mounts_may_have_brought_in_is_not_kept(tmp_path: Path) -> None:
    assert prepared_key("sha256:1", EnvironmentSpec(setup=("x",), mounts=(Mount(tmp_path, "/data"),))) is None


def test_the_key_follows_everything_that_set_up_depends_on(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "a").write_text("1")
    spec = EnvironmentSpec(setup=("make", "make test"), files=files)
    other = [
        dataclasses.replace(spec, setup=("make test", "make")),
        dataclasses.replace(spec, setup=("make make test",)),
        dataclasses.replace(spec, env={"A": "1"}),
        dataclasses.replace(spec, workdir="/other"),
        dataclasses.replace(spec, user="agent"),
        dataclasses.replace(spec, git=False),
        dataclasses.replace(spec, files=None),
    ]
    keys = {prepared_key("sha256:1", each) for each in [spec, *other]} | {prepared_key("sha256:2", spec)}
    assert len(keys) == 9
    key = prepared_key("sha256:1", spec)
    assert key in keys
    assert workspace_key("sha256:1", spec) == key
    (files / "a").write_text("2")
    assert prepared_key("sha256:1", spec) not in keys


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    client = connect()
    Images(client).ensure(BASE)
    yield client
    label = f"thunderctl.owner={paths.owner()}"
    for container in client.containers.list(all=True, filters={"label": label}):
        container.remove(force=True, v=True)
    for image in client.images.list(filters={"label": label}):
        client.images.remove(image.id, force=True)
    client.close()


def workspace(engine: docker.DockerClient, image: str = BASE) -> str:
    """A container as the back-end makes them, with a file made in it."""
    container = engine.containers.create(
        image, ["infinity"], entrypoint=["sleep"], user=KEEPER, network_mode="none",
        labels={"thunderctl.owner": paths.owner(), "thunderctl.lease": "l1", "thunderctl.run": "r", "mine": "stays"},
    )  # fmt: skip
    container.start()
    assert container.exec_run(["sh", "-c", "mkdir /testbed && echo made > /testbed/made"], user="0:0").exit_code == 0
    return str(container.id)


@pytest.mark.docker
def test_a_kept_workspace_is_found_again_and_looks_like_the_image_below(engine: docker.DockerClient) -> None:
    key = uuid.uuid4().hex[:20]
    assert find_prepared(engine, key) is None
    name = keep_prepared(engine, workspace(engine), key, "r1")
    assert name == f"thunderctl/prepared:{key}" == find_prepared(engine, key)
    below, kept = (engine.api.inspect_image(each)["Config"] for each in (BASE, name))
    assert kept["User"] == "0:0"
    assert kept["Entrypoint"] == [""], "none, as an engine understands it"
    assert (kept["Cmd"] or None) == (below["Cmd"] or None)
    assert kept["Labels"]["thunderctl.owner"] == paths.owner()
    assert kept["Labels"]["thunderctl.lease"] == "", "a person's container of this image is nobody's lease"
    person = engine.containers.create(name, ["x"])
    assert str(person.id) not in {item.id for item in find_containers(engine)}
    assert record()[name].how == "prepared"
    assert (record()[name].run, record()[name].key) == ("r1", key)
    assert engine.containers.run(name, ["cat", "/testbed/made"], remove=True) == b"made\n"


@pytest.mark.docker
def test_two_who_keep_the_same_workspace_get_one_image(engine: docker.DockerClient) -> None:
    key = uuid.uuid4().hex[:20]
    containers = [workspace(engine) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        names = list(threads.map(lambda container: keep_prepared(engine, container, key), containers))
    assert names[0] == names[1]
    ours = engine.images.list(filters={"label": f"thunderctl.owner={paths.owner()}"})
    assert [image.tags for image in ours] == [[names[0]]]


@pytest.mark.docker
def test_two_processes_that_keep_the_same_workspace_get_one_image(engine: docker.DockerClient) -> None:
    key = uuid.uuid4().hex[:20]
    script = (
        "import sys\nfrom thunderctl.environments.docker import connect\n"
        "from thunderctl.environments.prepared import keep_prepared\nprint(keep_prepared(connect(), *sys.argv[1:]))"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script, workspace(engine), key],
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        for _ in range(2)
    ]
    assert [each.communicate()[0] for each in both] == [f"thunderctl/prepared:{key}\n"] * 2
    ours = engine.images.list(filters={"label": f"thunderctl.owner={paths.owner()}"})
    assert len(ours) == 1


@pytest.mark.docker
def test_the_user_and_commands_of_the_image_below_come_back(engine: docker.DockerClient) -> None:
    text = f'FROM {BASE}\nRUN useradd agent\nWORKDIR /home\nUSER agent\nENTRYPOINT ["/bin/echo"]\nCMD ["a b"]\n'
    below, _ = engine.images.build(
        fileobj=io.BytesIO(text.encode()), rm=True, labels={"thunderctl.owner": paths.owner()}
    )
    name = keep_prepared(engine, workspace(engine, str(below.id)), uuid.uuid4().hex[:20])
    kept = engine.api.inspect_image(name)["Config"]
    assert (kept["User"], kept["Entrypoint"], kept["Cmd"], kept["WorkingDir"]) == (
        "agent", ["/bin/echo"], ["a b"], "/home",
    )  # fmt: skip


@pytest.mark.docker
def test_what_a_volume_would_swallow_is_not_kept(engine: docker.DockerClient) -> None:
    text = f"FROM {BASE}\nVOLUME /data\n"
    below, _ = engine.images.build(
        fileobj=io.BytesIO(text.encode()), rm=True, labels={"thunderctl.owner": paths.owner()}
    )
    key = uuid.uuid4().hex[:20]
    assert keep_prepared(engine, workspace(engine, str(below.id)), key) is None
    with contextlib.suppress(docker.errors.ImageNotFound):
        engine.images.get(f"thunderctl/prepared:{key}")
        raise AssertionError("it was kept")
