"""Ports that profiles ask for, and who has them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from thunderctl.doctor.finding import State
from thunderctl.doctor.ports import port, ports_of_own_profiles
from thunderctl.profile import GatewaySpec


def test_a_taken_port_names_who_has_it_and_how_to_choose_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        found = port(GatewaySpec(port=number), "mine")
        assert found.state is State.wanted and found.needed_for == "profile mine"
        assert f"process {os.getpid()} " in found.found
        assert f"kill {os.getpid()}" in found.fix and "gateway.port" in found.fix
    assert port(GatewaySpec(port=number), "mine").state is State.ok


def test_ports_of_the_users_own_profiles_are_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path))
    (tmp_path / "profiles").mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        (tmp_path / "profiles" / "fixed.yaml").write_text(f"extends: laptop\ngateway: {{port: {number}}}\n")
        (tmp_path / "profiles" / "spoilt.yaml").write_text("extends: nothing\n")
        assert [(f.what, f.needed_for) for f in ports_of_own_profiles()] == [(f"port {number}", "profile fixed")]
