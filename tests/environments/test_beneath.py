"""Reading and writing below a folder; what a command may do to it meanwhile is in ``test_local_abuse``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from thunderctl.environments.beneath import read, write
from thunderctl.errors import EnvironmentFailure


def test_what_is_written_is_read_and_replaces_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, {"a/b/c": b"1", "d": b"2"})
    write(tmp_path, {"a/b/c": b"3"})
    assert (read(tmp_path, "a/b/c", 10), read(tmp_path, "d", 10)) == (b"3", b"2")


def test_a_refused_name_keeps_everything_from_being_written(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="does not stay inside"):
        write(tmp_path, {"good": b"", "../bad": b""})
    assert not list(tmp_path.iterdir())


def test_links_are_replaced_and_never_followed(tmp_path: Path) -> None:
    work, outside = tmp_path / "work", tmp_path / "outside"
    for folder in (work, outside):
        folder.mkdir()
    (outside / "secret").write_text("s")
    (work / "way").symlink_to(outside)
    (work / "file").symlink_to(outside / "secret")
    for name in ("way/secret", "file", "way"):
        with pytest.raises(EnvironmentFailure, match="is not a file"):
            read(work, name, 10)
    write(work, {"way/new": b"1", "file": b"2"})
    assert [entry.name for entry in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "s"
    assert (read(work, "way/new", 10), read(work, "file", 10)) == (b"1", b"2")


def test_only_files_of_the_asked_size_are_read(tmp_path: Path) -> None:
    write(tmp_path, {"folder/file": b"12345"})
    os.mkfifo(tmp_path / "pipe")
    assert read(tmp_path, "folder/file", 5) == b"12345"
    with pytest.raises(EnvironmentFailure, match="has 5 bytes, more than 4"):
        read(tmp_path, "folder/file", 4)
    for name in ("folder", "pipe", "folder/file/x"):
        with pytest.raises(EnvironmentFailure, match="is not a file"):
            read(tmp_path, name, 10)
    with pytest.raises(EnvironmentFailure, match="there is no file folder/other"):
        read(tmp_path, "folder/other", 10)
    with pytest.raises(EnvironmentFailure, match="there is no file"):
        read(tmp_path, "no/such", 10)


def test_a_folder_cannot_become_a_file_nor_a_file_a_folder(tmp_path: Path) -> None:
    write(tmp_path, {"folder/file": b""})
    with pytest.raises(EnvironmentFailure, match="folder is a folder in the environment"):
        write(tmp_path, {"folder": b""})
    with pytest.raises(EnvironmentFailure, match="file is not a folder"):
        write(tmp_path, {"folder/file/x": b""})
