"""What goes wrong before anything runs: one clear message, the right exit code, nothing left behind."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.commandline import CommandLine
from thunderctl.cli.main import app

EXTERNAL = """
engine: {kind: external}
workers: {urls: ['http://127.0.0.1:9'], replay: true}
environments: {backend: local}
"""


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home")


def one_error(stderr: str) -> str:
    assert stderr.count("error:") == 1 and "Traceback" not in stderr, stderr
    return stderr


def test_a_misspelt_key_is_named_with_file_line_and_suggestion(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: laptop\nworkers:\n  cuont: 2\n")
    done = cli.run("up", str(file))
    assert done.returncode == 2
    said = one_error(done.stderr)
    assert "mine.yaml" in said and "3" in said and "cuont" in said and "count" in said
    assert not cli.home.exists()


def test_a_missing_engine_is_said_before_anything_starts(cli: CommandLine) -> None:
    done = cli.run("run", "swebench", "-p", "laptop", "-c", "engine.python=/nowhere/python")
    assert done.returncode == 3
    assert "/nowhere/python" in one_error(done.stderr)
    assert cli.nothing_runs() and not list(cli.home.glob("runs/*"))


def test_a_port_in_use_is_named_with_the_key_that_chooses_it(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        file.write_text(EXTERNAL + f"gateway: {{port: {port}}}\n")
        done = cli.run("up", str(file))
    assert done.returncode == 3
    said = one_error(done.stderr)
    assert str(port) in said and "gateway.port" in said
    assert cli.nothing_runs() and not list(cli.home.glob("nodes/*/node.json"))


def test_an_external_worker_that_does_not_answer_takes_the_node_down_again(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(EXTERNAL)
    done = cli.run("up", str(file))
    assert done.returncode == 3
    assert "127.0.0.1:9" in one_error(done.stderr)
    assert cli.nothing_runs() and not list(cli.home.glob("nodes/*/node.json"))
    assert cli.run("down").stdout.strip() == "nothing was up"


def test_a_task_whose_name_leaves_its_folder_is_refused(cli: CommandLine, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "tasks" / "bad" / "repo").mkdir(parents=True)
    bundled = Path(__file__).parents[2] / "workloads" / "swebench" / "workload.yaml"
    (work / "workload.yaml").write_text(bundled.read_text())
    (work / "tasks" / "bad" / "task.yaml").write_text(
        "instance_id: ../../escape\ntitle: t\ndomain: d\ndifficulty: easy\nproblem_statement: p\n"
        "FAIL_TO_PASS: [a.b]\nPASS_TO_PASS: []\n"
    )
    done = cli.run("run", str(work), "-p", "laptop")
    assert done.returncode == 2
    said = one_error(done.stderr)
    assert "../../escape" in said and "task.yaml" in said
    assert not cli.home.exists()


@pytest.mark.parametrize(
    ("args", "mention"),
    [
        (["run", "swebnch"], "swebench"),
        (["run", "swebench", "--agents", "0"], "agents"),
        (["run", "swebench", "-p", "laptop", "-c", "scheduler.policy=thundr"], "thunder"),
        (["run", "swebench", "-p", "laptop", "-c", "scheduler.options={growth_step: 3}"], "growth_steps"),
        (["run", "swebench", "-p", "laptop", "--task", "no-such-task"], "no-such-task"),
        (["run", "swebench", "-p", "gpu-1"], "--live"),
        (["compare", "swebench", "--arms", "thunder"], "two"),
        (["report", "no-such-run"], "no-such-run"),
        (["logs", "nothing"], "nothing"),
    ],
)
def test_a_command_line_that_cannot_be_carried_out_says_why_and_starts_nothing(
    cli: CommandLine, args: list[str], mention: str
) -> None:
    done = cli.run(*args)
    assert done.returncode in (2, 3), done.stderr
    assert mention in done.stderr and "Traceback" not in done.stderr
    assert cli.nothing_runs()


@pytest.mark.parametrize("command", ["status", "ps"])
def test_without_a_node_status_says_how_to_get_one(cli: CommandLine, command: str) -> None:
    done = cli.run(command)
    assert done.returncode == 1
    assert "thunderctl up" in done.stderr


def test_the_engines_command_line_of_a_profile_for_big_machines_is_printed_as_it_would_run(cli: CommandLine) -> None:
    done = cli.run("up", "h100x8", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "vllm serve zai-org/GLM-4.6-FP8" in done.stdout and "--tensor-parallel-size 8" in done.stdout
    assert cli.nothing_runs()


@pytest.mark.parametrize(
    "command",
    [
        *("up", "down", "status", "ps", "logs", "run", "compare", "report", "simulate", "plan", "calibrate", "gc"),
        *("explain", "doctor", "profile", "engine", "trace", "bench", "env"),
    ],
)
def test_every_command_explains_itself(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert command in ("profile", "engine", "trace", "bench", "env") or (
        "Example" in done.stdout and "--json" in done.stdout
    )
