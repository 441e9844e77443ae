"""A worker's folder for temporary files says whose it is, and only those of this home are found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from thunderctl import paths
from thunderctl.workers.scratch import MARK, end_unrecorded, find_scratch, make_scratch, read_scratch


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place of its own, with a short name: sockets are to fit in."""
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "home"))
    with tempfile.TemporaryDirectory(prefix="tc", dir="/tmp") as folder:  # noqa: S108
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


def test_a_folder_is_found_again_with_the_process_that_made_it(temporary: Path) -> None:
    folder = make_scratch()
    found = read_scratch(folder)
    assert found is not None
    assert (found.folder, found.pid) == (folder, os.getpid())
    assert found.create_time == psutil.Process().create_time()
    assert folder in [each.folder for each in find_scratch()]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_path_leaves_room_for_a_sockets_name(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = temporary / ("d" * 80)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    folder = make_scratch()
    try:
        assert len(str(folder / "00000000-0000-0000-0000-000000000000")) <= 107
        assert folder in [each.folder for each in find_scratch()]
        assert folder.parent != deep
    finally:
        (folder / MARK).unlink()
        folder.rmdir()


@pytest.mark.parametrize("mark", [None, "", "[]", "{", '{"owner": "somebody-else", "pid": 1, "create_time": 1}'])
def test_what_bears_no_mark_of_this_home_is_not_found(temporary: Path, mark: str | None) -> None:
    folder = temporary / "thunderctl-abcdefgh"
    folder.mkdir()
    if mark is not None:
        (folder / MARK).write_text(mark)
    assert read_scratch(folder) is None
    assert folder not in [each.folder for each in find_scratch()]


def test_a_link_to_such_a_folder_is_not_one(temporary: Path) -> None:
    folder = make_scratch()
    link = temporary / "thunderctl-linked12"
    link.symlink_to(folder)
    assert json.loads((link / MARK).read_text())["owner"] == paths.owner()
    assert read_scratch(link) is None


def test_a_folder_is_found_where_somebody_elses_temporary_files_were(temporary: Path) -> None:
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    folder = make_scratch().rename(elsewhere / "thunderctl-abcdefgh")
    assert folder not in [each.folder for each in find_scratch()]
    assert folder in [each.folder for each in find_scratch([elsewhere])]


def test_a_worker_that_nobody_wrote_down_is_ended_by_its_folder() -> None:
    folder, other = make_scratch(), make_scratch()
    mine, theirs = (
        subprocess.Popen(["sleep", "60"], env={"TMPDIR": str(where)}, start_new_session=True)
        for where in (folder, other)
    )
    try:
        end_unrecorded(folder)
        assert mine.wait(10) == -signal.SIGKILL and not folder.exists()
        assert theirs.poll() is None and other.is_dir()
    finally:
        for process in (mine, theirs):
            process.kill()
            process.wait()
        end_unrecorded(other)
