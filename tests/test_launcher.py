"""Who is taken for a node that is up."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from thunderctl import launcher, paths
from thunderctl.errors import DaemonError
from thunderctl.node import NodeRecord, write_node


@pytest.fixture
def silent_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port where somebody listens who never answers."""
    monkeypatch.setattr(launcher, "HEALTH_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def a_node_of_this_process(port: int) -> None:
    created = psutil.Process().create_time()
    write_node(paths.nodes() / "n1", NodeRecord(os.getpid(), created, f"http://127.0.0.1:{port}", "p", "0", created))


def test_a_node_that_is_too_busy_to_answer_is_not_taken_for_none(
    silent_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path))
    a_node_of_this_process(silent_port)
    with pytest.raises(DaemonError, match="node n1 is up, but did not answer") as caught:
        launcher.current("n1")
    assert "thunderctl logs" in (caught.value.hint or "")


def test_a_node_where_nobody_listens_is_not_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    a_node_of_this_process(port)
    assert launcher.current("n1") is None
