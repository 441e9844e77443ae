"""A node is alive as long as the very process that wrote its record lives."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil
import pytest

from thunderctl.errors import UsageError
from thunderctl.node import NodeRecord, alive, node_dir, node_is_alive, read_node, read_record, write_node


def record_of(pid: int) -> NodeRecord:
    return NodeRecord(pid, psutil.Process(pid).create_time(), "http://127.0.0.1:1", "p", "d", 1.0)


def test_a_record_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path))
    record = record_of(os.getpid())
    write_node(node_dir("n"), record)
    assert read_node("n") == record
    assert [file.name for file in node_dir("n").iterdir()] == ["node.json"]
    assert node_is_alive(node_dir("n"))


def test_a_node_dies_with_its_process_even_before_it_is_reaped() -> None:
    child = subprocess.Popen(["sleep", "1000"])
    record = record_of(child.pid)
    assert alive(record)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(record)
    child.wait()
    assert not alive(record)


def test_another_process_with_the_same_number_is_not_the_node() -> None:
    record = record_of(os.getpid())
    impostor = NodeRecord(record.pid, record.create_time - 3600, record.url, record.profile, record.digest, 1.0)
    assert not alive(impostor)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x", "create_time": 1}', "null"])
def test_a_record_that_cannot_be_understood_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "node.json").write_text(text)
    assert read_record(tmp_path) is None
    assert not node_is_alive(tmp_path)


def test_a_name_cannot_leave_the_folder_of_nodes() -> None:
    with pytest.raises(UsageError):
        node_dir("../x")
