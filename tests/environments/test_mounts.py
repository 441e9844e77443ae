"""Which mounts are let in, and that a refusal names what it refuses."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from thunderctl.environments.mounts import checked_mounts
from thunderctl.environments.spec import Mount
from thunderctl.errors import EnvironmentFailure


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("THUNDERCTL_CACHE", str(folder))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "some" / "data"
    folder.mkdir(parents=True)
    (folder / "table.csv").write_text("1\n")
    return folder


def test_a_folder_and_a_file_are_let_in_and_keep_their_wishes(data: Path) -> None:
    given = [Mount(data, "/data"), Mount(data / "table.csv", "/one.csv", writable=True)]
    assert checked_mounts(given) == given


def test_links_in_the_source_are_followed_and_the_target_is_tidied_up(data: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(data)
    assert checked_mounts([Mount(tmp_path / "link", "//data/./x/")]) == [Mount(data, "/data/x")]


@pytest.mark.parametrize("source", ["/", "/proc", "/sys/kernel", "/dev", "/dev/shm", "/run", "/etc", "/etc/ssl"])
def test_the_machine_itself_is_refused(source: str) -> None:
    with pytest.raises(EnvironmentFailure, match=f"the mount source {source} .*is refused|{source} cannot be used"):
        checked_mounts([Mount(Path(source), "/data")])


def test_thunderctls_home_and_cache_are_refused_with_what_is_in_and_around_them(home: Path, cache: Path) -> None:
    (home / "nodes").mkdir(parents=True)
    for source, said in [
        (home, "is in thunderctl's home"),
        (home / "nodes", "is in thunderctl's home"),
        (home.parent, "is around thunderctl's home"),
        (cache, "is in thunderctl's cache"),
    ]:
        with pytest.raises(EnvironmentFailure, match=said):
            checked_mounts([Mount(source, "/data")])


def test_a_link_to_a_refused_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "harmless").symlink_to("/etc")
    with pytest.raises(EnvironmentFailure, match=r"harmless \(/etc\) is in the machine itself"):
        checked_mounts([Mount(tmp_path / "harmless", "/data")])


def test_the_engines_socket_and_the_folder_around_it_are_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{data}/engine.sock")
    with pytest.raises(EnvironmentFailure, match="is around the engine's socket"):
        checked_mounts([Mount(data, "/data")])
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes at most
    with socket.socket(socket.AF_UNIX) as other:
        other.bind("other.sock")
    with pytest.raises(EnvironmentFailure, match="neither a folder nor a file"):
        checked_mounts([Mount(tmp_path / "other.sock", "/data")])


@pytest.mark.parametrize("target", ["data", "", "/a/../b", "/x\0y"])
def test_a_target_that_is_not_an_absolute_path_is_refused(data: Path, target: str) -> None:
    with pytest.raises(EnvironmentFailure, match="is not an absolute path inside"):
        checked_mounts([Mount(data, target)])


@pytest.mark.parametrize("target", ["/", "//", "/proc", "/dev/shm", "/sys/fs"])
def test_places_that_every_environment_has_of_its_own_are_reserved(data: Path, target: str) -> None:
    with pytest.raises(EnvironmentFailure, match="is reserved"):
        checked_mounts([Mount(data, target)])


def test_two_mounts_cannot_have_one_target(data: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="two mounts have the target /data"):
        checked_mounts([Mount(data, "/data"), Mount(data, "/data/")])


def test_a_source_that_is_missing_or_relative_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="nothing cannot be used: No such file"):
        checked_mounts([Mount(tmp_path / "nothing", "/data")])
    with pytest.raises(EnvironmentFailure, match="the mount source here is not absolute"):
        checked_mounts([Mount(Path("here"), "/data")])
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(EnvironmentFailure, match="circle cannot be used"):
        checked_mounts([Mount(tmp_path / "circle", "/data")])
