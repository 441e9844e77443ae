"""Docker that is stopped, absent or forbidden is told apart, and each has its own way out."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from thunderctl.doctor import isolation
from thunderctl.doctor.finding import Finding, State


@pytest.fixture
def dead_socket(tmp_path: Path) -> Path:
    """What an engine leaves that was stopped: a socket that nobody listens on."""
    place = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as was_there:
        was_there.bind(str(place))
    return place


def docker(monkeypatch: pytest.MonkeyPatch, host: str) -> Finding:
    monkeypatch.setenv("DOCKER_HOST", host)
    findings = list(isolation.docker())
    assert len(findings) == 1, "of an engine that does not answer there is nothing more to tell"
    assert findings[0].state is State.wanted and findings[0].needed_for == "environments.backend docker"
    return findings[0]


def test_a_stopped_engine_is_to_be_started(monkeypatch: pytest.MonkeyPatch, dead_socket: Path) -> None:
    found = docker(monkeypatch, f"unix://{dead_socket}")
    assert "stopped" in found.found and "docker" in found.fix
    assert any(word in found.fix for word in ("systemctl start", "service docker start", "dockerd"))


def test_an_address_without_an_engine_is_to_be_corrected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "unset DOCKER_HOST" in docker(monkeypatch, f"unix://{tmp_path}/nothing.sock").fix
    assert "unset DOCKER_HOST" in docker(monkeypatch, "tcp://127.0.0.1:9").fix


def test_no_engine_at_all_is_to_be_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(isolation, "SOCKET", tmp_path / "docker.sock")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    found = isolation._no_docker("no Docker engine answers")
    assert found.found == "not installed" and "docker.io" in found.fix


def test_an_engine_that_this_user_may_not_use_is_a_matter_of_groups(dead_socket: Path) -> None:
    """As root everything may be used: so it is somebody else who asks."""
    message = "no Docker engine answers: PermissionError(13, 'Permission denied')"
    assert "usermod -aG docker" in isolation._no_docker(message).fix


def test_bubblewrap_that_is_missing_is_to_be_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = next(iter(isolation.bubblewrap()))
    assert found.state is State.wanted and "bubblewrap" in found.fix


def test_bubblewrap_that_fails_tells_what_it_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = next(iter(isolation.bubblewrap()))
    assert found.state is State.wanted and "uid map: Permission denied" in found.found and found.fix


@pytest.mark.docker
def test_an_engine_that_answers_is_fine_and_so_is_its_disk() -> None:
    findings = {finding.what: finding for finding in isolation.docker()}
    assert findings["Docker engine"].state is State.ok and "containers" in findings["Docker engine"].found


def test_looking_at_control_groups_leaves_none_behind() -> None:
    line = "from thunderctl.doctor.isolation import control_groups; list(control_groups())"
    before = set(Path("/sys/fs/cgroup").glob("**/thunderctl/probe-*"))
    subprocess.run([sys.executable, "-c", line], check=True)
    assert set(Path("/sys/fs/cgroup").glob("**/thunderctl/probe-*")) <= before
