"""What may travel into an environment."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from thunderctl.environments.files import checked_tree, contents_archive, inside, tree_archive
from thunderctl.errors import EnvironmentFailure


@pytest.mark.parametrize("name", ["", ".", "..", "/etc/passwd", "a/../../b", "a/..", "a\0b"])
def test_a_path_that_leaves_the_working_directory_is_refused(name: str) -> None:
    with pytest.raises(EnvironmentFailure, match="does not stay inside"):
        inside(name)


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../outside", "../.."])
def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (folder / "link").symlink_to(target)
    with pytest.raises(EnvironmentFailure, match="leads out of"):
        list(checked_tree(folder))


def test_a_chain_of_links_is_followed_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (tmp_path / "secret").write_text("s")
    (folder / "b").symlink_to("a")
    (folder / "a").symlink_to("../secret")
    with pytest.raises(EnvironmentFailure, match="leads out of"):
        list(checked_tree(folder))


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EnvironmentFailure, match="neither a file"):
        list(checked_tree(tmp_path))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="does not exist"):
        list(checked_tree(tmp_path / "nowhere"))


def test_a_tree_travels_with_links_and_modes_and_belongs_to_the_tools_user(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "run").write_text("#!/bin/sh\n")
    (folder / "sub" / "run").chmod(0o755)
    (folder / "link").symlink_to("sub/run")
    with tree_archive(folder, "/testbed", 7, 8) as spool, tarfile.open(fileobj=spool) as archive:
        entries = {entry.name: entry for entry in archive}
    assert set(entries) == {"testbed", "testbed/sub", "testbed/sub/run", "testbed/link"}
    assert {(entry.uid, entry.gid, entry.uname) for entry in entries.values()} == {(7, 8, "")}
    assert entries["testbed/sub/run"].mode & 0o777 == 0o755
    assert entries["testbed/link"].linkname == "sub/run"


def test_contents_travel_with_every_folder_on_the_way_once(tmp_path: Path) -> None:
    with contents_archive({"a/b/c": b"1", "a/b/d": b"2"}, 0, 0) as spool, tarfile.open(fileobj=spool) as archive:
        assert archive.getnames() == ["a", "a/b", "a/b/c", "a/b/d"]
