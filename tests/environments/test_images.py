"""From what a spec says to an image on the engine: the forms, their errors, and that each is brought once."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import tarfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest

from tests.environments.conftest import MakeManager
from tests.environments.fake_registry import fake_registry
from thunderctl import paths
from thunderctl.environments.digests import context_digest, file_digest, tree_digest
from thunderctl.environments.docker import connect
from thunderctl.environments.image_store import brought, record, remove_images
from thunderctl.environments.images import BASE, Images
from thunderctl.environments.recipes import images_below, name_of
from thunderctl.environments.spec import EnvironmentSpec
from thunderctl.errors import EnvironmentFailure


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    client = connect()
    yield client
    for name, said in brought().items():  # what this test's home brought, the base excepted: others want it
        with contextlib.suppress(docker.errors.ImageNotFound):
            if name != BASE and client.images.get(name).id == said["id"]:
                client.images.remove(name)
    client.close()


@pytest.fixture
def offline(no_engine: None) -> Images:
    """Of an engine that is not there."""
    return Images(docker.DockerClient(base_url=os.environ["DOCKER_HOST"], version="1.41"))


def context(folder: Path, text: str = "FROM scratch\nCOPY a /a\n") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(text)
    (folder / "a").write_text(uuid.uuid4().hex)
    return folder


def root_tar(file: Path) -> Path:
    content = uuid.uuid4().hex.encode()
    with tarfile.open(file, "w") as archive:
        entry = tarfile.TarInfo("etc/made")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return file


def test_the_bundled_base_has_two_names() -> None:
    assert name_of("base:default") == name_of("thunderctl/base:1") == BASE


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("base:unheard-of", "no bundled base image 'unheard-of'"),
        ("build:", "names no folder"),
        ("build:missing", "missing does not exist"),
        ("build:empty", "there is no Dockerfile in"),
        ("import:", "names no file"),
        ("import:missing.tar", "missing.tar does not exist"),
        ("import:words", "is no tar archive"),
        ("", "is empty"),
    ],
)
def test_a_source_that_cannot_be_used_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").write_text("not a tar")
    with pytest.raises(EnvironmentFailure, match=says) as caught:
        name_of(source)
    assert caught.value.hint


def test_without_an_engine_the_error_is_one_for_the_person(offline: Images) -> None:
    with pytest.raises(EnvironmentFailure, match="engine does not answer"):
        offline.ensure("python:3.11")


def test_the_name_of_a_build_follows_the_content_and_not_place_or_date(tmp_path: Path) -> None:
    one = context(tmp_path / "one")
    name = name_of(f"build:{one}")
    assert name.startswith("thunderctl/build:")
    os.utime(one / "a", (1, 1))
    assert name_of(f"build:{one}") == name
    one.rename(tmp_path / "two")
    assert name_of(f"build:{tmp_path}/two") == name
    (tmp_path / "two" / "a").chmod(0o755)
    assert name_of(f"build:{tmp_path}/two") != name


def test_what_a_build_ignores_does_not_change_its_name(tmp_path: Path) -> None:
    folder = context(tmp_path / "one")
    (folder / ".dockerignore").write_text("# not these\n\n*.log\n")
    before = context_digest(folder)
    (folder / "x.log").write_text("x")
    assert context_digest(folder) == before
    (folder / "x.txt").write_text("x")
    assert context_digest(folder) != before


def test_entries_cannot_be_made_to_look_like_others(tmp_path: Path) -> None:
    """Names, kinds and contents are kept apart: no two of these folders have the same digest."""
    folders = []
    for number, fill in enumerate([{}, {"a": "b"}, {"ab": ""}, {"a": "", "b": ""}, {"a": "b\n1 c"}, {"a b": ""}]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, text in fill.items():
            (folder / name).write_text(text)
        folders.append(folder)
    link = tmp_path / "link"
    link.mkdir()
    (link / "b").write_text("")
    (link / "a").symlink_to("b")
    assert len({tree_digest(folder) for folder in [*folders, link]}) == 7


def test_a_changed_file_has_another_digest_although_digests_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("one")
    before = file_digest(file)
    file.write_text("two")
    assert file_digest(file) != before


def test_images_that_a_dockerfile_starts_from_are_found(tmp_path: Path) -> None:
    text = (
        "ARG V=1\nFROM --platform=linux/amd64 a/b:1 AS make\nRUN x\nfrom python:${V}\nFROM scratch\nFROM make\nFROM c\n"
    )
    assert images_below(context(tmp_path / "x", text)) == ["a/b:1", "c"]


@pytest.mark.docker
def test_a_folder_is_built_once_and_bears_our_label(engine: docker.DockerClient, tmp_path: Path) -> None:
    folder = context(tmp_path / "x")
    lines: list[str] = []
    images = Images(engine)
    with ThreadPoolExecutor(4) as threads:
        names = set(threads.map(lambda _: images.ensure(f"build:{folder}", lines.append, run="r1"), range(4)))
    (name,) = names
    assert engine.images.get(name).labels["thunderctl.owner"] == paths.owner()
    assert sum(line.startswith(f"building {name} from") for line in lines) == 1
    assert f"building {name}: step 2 of 3" in lines
    assert (record()[name].how, record()[name].run) == ("built", "r1")


@pytest.mark.docker
def test_a_build_that_fails_tells_its_last_lines(engine: docker.DockerClient, tmp_path: Path) -> None:
    folder = context(tmp_path / "x", "FROM scratch\nCOPY missing /a\n")
    with pytest.raises(EnvironmentFailure, match="could not be built.*missing") as caught:
        Images(engine).ensure(f"build:{folder}")
    assert any("COPY missing" in line for line in caught.value.details)
    assert record() == {}


@pytest.mark.docker
def test_what_a_build_starts_from_is_pulled_within_the_limits_and_written_down(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    with fake_registry() as registry:
        below = registry.add("below")
        name = Images(engine).ensure(f"build:{context(tmp_path / 'x', f'FROM {below}' + chr(10) + 'COPY a /a')}")
        assert len(json.loads((paths.home() / "pulls.json").read_text())) == 1
    assert {known.name: known.how for known in record().values()} == {below: "pulled", name: "built"}


@pytest.mark.docker
async def test_an_environment_starts_from_a_folder_with_a_dockerfile(
    make_manager: MakeManager, engine: docker.DockerClient, tmp_path: Path
) -> None:
    Images(engine).ensure(BASE)
    folder = context(tmp_path / "x", f"FROM {BASE}\nRUN useradd agent\nCOPY a /a\nUSER agent\n")
    manager = await make_manager(backend="docker")
    lease = await manager.request("p", "r1", EnvironmentSpec(image=f"build:{folder}"))
    said = await manager.execute(lease.id, "whoami; cat /a")
    assert said.output == "agent\n" + (folder / "a").read_text()
    assert {known.how: known.run for known in record().values()} == {"built": "r1"}
    assert remove_images(engine, list(record())).removed == []
    await manager.release(lease.id)
    (folder / "a").write_text("another")
    assert remove_images(engine, list(record())).kept == {}


@pytest.mark.docker
def test_a_tar_is_imported_once_and_bears_our_label(engine: docker.DockerClient, tmp_path: Path) -> None:
    file = root_tar(tmp_path / "root.tar")
    name = Images(engine).ensure(f"import:{file}")
    assert name == f"thunderctl/import:{file_digest(file)[:20]}"
    assert engine.images.get(name).labels["thunderctl.owner"] == paths.owner()
    when = record()[name].when
    assert Images(engine).ensure(f"import:{file}") == name
    assert (record()[name].how, record()[name].when) == ("imported", when)


@pytest.mark.docker
def test_what_was_there_before_is_not_written_down(engine: docker.DockerClient, tmp_path: Path) -> None:
    name = f"thunderctl-test/mine:{uuid.uuid4().hex[:8]}"
    engine.api.import_image_from_file(str(root_tar(tmp_path / "r.tar")), *name.split(":"))
    try:
        assert Images(engine).ensure(name) == name
        assert record() == {}
    finally:
        engine.images.remove(name)


@pytest.mark.docker
def test_an_image_whose_maker_was_killed_before_it_wrote_is_taken_into_the_record(
    engine: docker.DockerClient, tmp_path: Path
) -> None:
    file = root_tar(tmp_path / "root.tar")
    name = Images(engine).ensure(f"import:{file}")
    (paths.home() / "images.json").unlink()
    Images(engine).ensure(f"import:{file}")
    assert record()[name].how == "imported"


@pytest.mark.docker
def test_our_own_names_are_never_pulled(engine: docker.DockerClient) -> None:
    with pytest.raises(EnvironmentFailure, match="made here, not pulled"):
        Images(engine).ensure("thunderctl/prepared:0123")
    assert not (paths.home() / "pulls.json").exists()


@pytest.mark.docker
async def test_who_is_cancelled_leaves_at_once_and_the_image_comes_for_the_others(engine: docker.DockerClient) -> None:
    with fake_registry() as registry:
        registry.bytes_per_second = 5000
        name = registry.add("shared")
        images = Images(engine)
        first = asyncio.create_task(images.bring(name))
        second = asyncio.create_task(images.bring(name))
        await asyncio.sleep(0.1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not second.done()
        assert await second == name
        assert registry.pulls == {"shared": 1}
