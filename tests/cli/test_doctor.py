"""``doctor`` on a machine as it is, and on one where something is missing: what it finds, what it says to type."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.cli.conftest import Counting
from tests.commandline import CommandLine


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home")


def test_on_a_machine_that_can_run_something_it_ends_well_and_says_what_to_type_next(cli: CommandLine) -> None:
    done = cli.run("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "next: thunderctl run swebench --agents 8"
    assert sum(line.lstrip().startswith("fix: ") for line in lines) == sum(line.startswith("wanted") for line in lines)
    assert not cli.home.exists(), "it only looks"


def test_a_stopped_docker_engine_is_broken_for_a_profile_that_wants_it_and_only_wanted_otherwise(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(place))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{place}")
    anyhow = {f["what"]: f for f in cli.json("doctor")["findings"]}
    assert anyhow["Docker engine"]["state"] == "wanted" and "stopped" in anyhow["Docker engine"]["found"]
    needed = cli.run("doctor", "--profile", "laptop", "-c", "environments.backend=docker")
    assert needed.returncode == 3
    assert "broken Docker engine" in needed.stdout and "fix: " in needed.stdout
    assert "Docker engine: mend this first" in needed.stdout.splitlines()[-1]


def test_a_home_that_cannot_be_written_to_is_broken(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    told = CommandLine(Path("/proc/thunderctl")).json("doctor", code=3)
    broken = [f for f in told["findings"] if f["state"] == "broken"]
    assert [f["what"] for f in broken] == ["disk for state and runs"] and told["ok"] is False
    assert "THUNDERCTL_HOME=" in broken[0]["fix"]


def test_a_taken_port_is_broken_for_the_profile_that_names_it_unless_our_own_node_has_it(counting: Counting) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        done = counting.cli.run("doctor", "-p", "laptop", "-c", f"gateway.port={number}")
    assert done.returncode == 3
    assert f"broken port {number}" in done.stdout and "gateway.port" in done.stdout
    own = counting.cli.json("status")["url"].rpartition(":")[2]
    told = counting.cli.json("doctor", "-p", "laptop", "-c", f"gateway.port={own}")
    assert [f["state"] for f in told["findings"] if f["what"] == f"port {own}"] == ["ok"]
