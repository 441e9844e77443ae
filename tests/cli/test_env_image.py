"""The image commands as a person meets them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import typer
import yaml
from typer.testing import CliRunner

from tests.environments.fake_registry import FakeRegistry, fake_registry, layer
from thunderctl import paths
from thunderctl.cli.env_image import image_app, prefetch
from thunderctl.environments.docker import connect
from thunderctl.environments.image_store import record
from thunderctl.environments.images import BASE, Images
from thunderctl.environments.prepared import find_prepared, workspace_key
from thunderctl.environments.spec import EnvironmentSpec
from thunderctl.errors import EnvironmentFailure, ExitCode, PreflightError, UsageError

app = typer.Typer()
app.add_typer(image_app, name="image")
app.command("prefetch")(prefetch)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


@pytest.fixture
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    """A client; what the test's home brought is gone afterwards, the base excepted."""
    client = connect()
    yield client
    for name, known in record().items():
        for image in client.images.list():
            if image.id == known.id and name in image.tags and name != BASE:
                client.images.remove(name, force=True)
    client.close()


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as offers:
        yield offers


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    """Two tasks of one file each, with set-up."""
    folder = tmp_path / "small"
    bundled = paths.bundled_workloads() / "swebench"
    said = yaml.safe_load((bundled / "workload.yaml").read_text())
    said["name"] = "small"
    said["environment"] = {"setup": ["echo $WHO > set-up"], "env": {"WHO": "me"}}
    (folder / "tasks").mkdir(parents=True)
    (folder / "workload.yaml").write_text(yaml.safe_dump(said))
    for name in ("one", "two"):
        task = folder / "tasks" / name
        (task / "repo").mkdir(parents=True)
        (task / "repo" / "a.py").write_text(f"x = {str(tmp_path)!r} + {name!r}\n")
        (task / "task.yaml").write_text(yaml.safe_dump({
            "instance_id": name, "title": "t", "domain": "d", "difficulty": "easy", "problem_statement": "p",
            "FAIL_TO_PASS": ["t"], "PASS_TO_PASS": [],
        }))  # fmt: skip
    return folder


def ask(*args: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(args), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize(
    "args", [["image", "ls"], ["image", "build"], ["image", "rm", "--unused"], ["prefetch", "swebench"]]
)
def test_without_an_engine_nothing_can_be_done(args: list[str]) -> None:
    with pytest.raises(PreflightError, match="no Docker engine answers"):
        ask(*args)


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["image", "rm"], "say which images"),
        (["image", "rm", "x:1", "--unused"], "say which images"),
        (["image", "rm", "python:3.11"], "not brought by this home"),
        (["image", "build", "swebench", "--task", "nope"], "has no task nope"),
        (["image", "build", "nope"], "there is no workload 'nope'"),
        (["prefetch"], "say what to bring"),
        (["prefetch", "--image", "x", "--task", "y"], "belong to a workload"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused_before_anything_is_done(args: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ask(*args)


@pytest.mark.docker
def test_a_home_that_brought_nothing_lists_nothing(engine: docker.DockerClient) -> None:
    Images(engine).ensure(BASE)
    assert "no image was brought by this home" in ask("image", "ls")
    assert json.loads(ask("image", "ls", "--json")) == {"images": [], "bytes": 0}


@pytest.mark.docker
def test_tasks_become_small_layers_on_one_base_that_are_made_once(engine: docker.DockerClient, workload: Path) -> None:
    made = json.loads(ask("image", "build", str(workload), "--json"))["images"]
    assert [row["task"] for row in made] == ["one", "two"]
    assert all(row["made"] for row in made)
    base = engine.images.get(BASE)
    for row in made:
        image = engine.images.get(row["image"])
        assert row["image"].startswith(f"thunderctl/task:small-{row['task']}-")
        assert image.attrs["RootFS"]["Layers"][:-1] == base.attrs["RootFS"]["Layers"]
        assert 0 < row["unique_bytes"] < 2_000_000
    both = json.loads(ask("image", "rm", *(row["image"] for row in made), "--dry-run", "--json"))
    assert both["bytes"] == sum(row["unique_bytes"] for row in made), "the base stays, so its bytes are not freed"
    script = "cat set-up; git status --short; git log --format=%s; git rev-parse HEAD; stat -c %U .git a.py"
    name = made[0]["image"]
    said = engine.containers.run(name, ["sh", "-c", script], working_dir="/testbed", remove=True).decode().splitlines()
    assert said[:2] == ["me", "as given"]
    assert said[3:] == ["root", "root"]
    assert [row["made"] for row in json.loads(ask("image", "build", str(workload), "--json"))["images"]] == [False] * 2
    (workload / "tasks" / "one" / "repo" / "a.py").write_text("y = 1\n")
    assert [row["made"] for row in json.loads(ask("image", "build", str(workload), "--json"))["images"]] == [
        True,
        False,
    ]
    assert engine.containers.list(all=True, filters={"label": f"thunderctl.owner={paths.owner()}"}) == []


@pytest.mark.docker
def test_a_task_image_is_found_by_what_an_agent_asks_for(engine: docker.DockerClient, workload: Path) -> None:
    made = json.loads(ask("image", "build", str(workload), "--task", "two", "--json"))["images"]
    asked = EnvironmentSpec(
        files=workload / "tasks" / "two" / "repo", setup=("echo $WHO > set-up",), env={"WHO": "me"}
    )  # fmt: skip
    assert find_prepared(engine, workspace_key(str(engine.images.get(BASE).id), asked)) == made[0]["image"]


@pytest.mark.docker
def test_a_set_up_that_fails_leaves_no_image_and_no_container(engine: docker.DockerClient, workload: Path) -> None:
    said = yaml.safe_load((workload / "workload.yaml").read_text())
    said["environment"]["setup"] = ["echo before; no-such-command"]
    (workload / "workload.yaml").write_text(yaml.safe_dump(said))
    with pytest.raises(EnvironmentFailure, match="ended with 127") as caught:
        ask("image", "build", str(workload))
    assert caught.value.details[0] == "before"
    assert not [name for name in record() if "task:" in name]
    assert engine.containers.list(all=True, filters={"label": f"thunderctl.owner={paths.owner()}"}) == []


@pytest.mark.docker
def test_what_a_workload_needs_is_brought_before_its_run(
    engine: docker.DockerClient, registry: FakeRegistry, workload: Path, tmp_path: Path
) -> None:
    names = [registry.add(f"task{number}") for number in range(3)]
    rows = [{"instance_id": f"i{n}", "problem_statement": "p", "image_name": name} for n, name in enumerate(names)]
    dataset = tmp_path / "rows.jsonl"
    dataset.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0] | {"instance_id": "again"}]))
    came = json.loads(ask("prefetch", str(workload), "--dataset", str(dataset), "--json"))
    assert [(row["image"], row["was_there"]) for row in came["images"]] == [(name, False) for name in names]
    assert set(registry.pulls.values()) == {1}
    assert "was there" in ask("prefetch", "--image", names[0])
    assert set(registry.pulls.values()) == {1}


@pytest.mark.docker
def test_what_cannot_be_brought_is_told_and_the_rest_comes(engine: docker.DockerClient, registry: FakeRegistry) -> None:
    good = registry.add("good")
    with pytest.raises(EnvironmentFailure, match="1 of 2 images could not be brought") as caught:
        ask("prefetch", "--image", f"{registry.address}/bad:1", "--image", good)
    assert "not found" in caught.value.details[0]
    assert good in record()


@pytest.mark.docker
def test_a_plan_is_shown_first_and_only_unused_images_of_this_home_go(
    engine: docker.DockerClient, registry: FakeRegistry
) -> None:
    used, unused = registry.add("used"), registry.add("unused")
    ask("prefetch", "--image", used, "--image", unused)
    container = engine.containers.create(used)
    try:
        rows = {row["name"]: row for row in json.loads(ask("image", "ls", "--json"))["images"]}
        assert rows[used]["in_use_by"] == f"container {container.name}"
        assert rows[unused]["in_use_by"] is None
        assert rows[unused]["unique_bytes"] > 0
        assert rows[unused]["how"] == "pulled"
        planned = json.loads(ask("image", "rm", "--unused", "--dry-run", "--json"))
        assert planned["plan"] == [unused]
        assert unused in ask("image", "rm", "--unused", "--dry-run")
        assert unused in record()
        assert "removed 1" in ask("image", "rm", "--unused", "--yes")
        assert record().keys() == {used}
        assert f"used by container {container.name}" in ask("image", "rm", used, "--yes", code=ExitCode.FAILED)
    finally:
        container.remove()
    assert json.loads(ask("image", "rm", used, "--json"))["removed"] == [used]
    assert "nothing to remove" in ask("image", "rm", "--unused")


@pytest.mark.docker
def test_what_somebody_removed_by_other_means_is_listed_as_gone_and_forgotten(
    engine: docker.DockerClient, registry: FakeRegistry
) -> None:
    name = registry.add("gone")
    ask("prefetch", "--image", name)
    engine.images.remove(name)
    assert "gone" in ask("image", "ls").replace(name, "")
    assert json.loads(ask("image", "rm", "--unused", "--json"))["removed"] == [name]
    assert record() == {}


@pytest.mark.docker
def test_ctrl_c_ends_a_prefetch_although_a_pull_is_slow(
    engine: docker.DockerClient, registry: FakeRegistry, home: Path
) -> None:
    registry.bytes_per_second = 600_000
    name = registry.add("slow", layers=[layer(str(home), 20_000_000)])
    script = (
        "import typer\nfrom thunderctl.cli.env_image import prefetch\n"
        "app = typer.Typer()\napp.command()(prefetch)\napp()"
    )
    command = [sys.executable, "-c", script, "--image", name]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stderr is not None
    while " of 20 MB" not in (line := process.stderr.readline()):
        assert line, "it ended before it pulled"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert name not in record()


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("debootstrap") is None, reason="needs root and debootstrap")
def test_the_base_is_made_without_a_registry(engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from thunderctl.environments import recipes

    here = recipes.Base(
        "thunderctl-test/base:1", "127.0.0.1:1/nobody/answers:1", ("git",), ("git", "python3", "ca-certificates")
    )
    monkeypatch.setitem(recipes.BASES, "test", here)
    name = Images(engine).ensure("base:test")
    said = engine.containers.run(name, ["sh", "-c", "git --version && python --version && bash --version"], remove=True)
    assert b"git version" in said
    assert record()[name].how == "imported"
