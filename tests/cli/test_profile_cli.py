"""``thunderctl profile``: what is printed, and the exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from thunderctl.cli import main
from thunderctl.cli.profile import app
from thunderctl.errors import ProfileError
from thunderctl.profile_files import load_profile

runner = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / "profiles").mkdir(parents=True)
    monkeypatch.setenv("THUNDERCTL_HOME", str(folder))
    monkeypatch.setenv("COLUMNS", "100")
    return folder


def test_list_shows_bundled_and_own_profiles_even_broken_ones(home: Path) -> None:
    (home / "profiles" / "mine.yaml").write_text("description: 'Mine [bold]and[/bold] only mine'")
    (home / "profiles" / "odd.yaml").write_text("- a")
    result = runner.invoke(app, ["list"])
    assert result.exit_code == 0
    assert "laptop-pressure" in result.stdout
    assert "Mine [bold]and[/bold] only mine" in result.stdout
    assert "must be a mapping" in " ".join(result.stdout.split())


def test_list_as_json_has_every_profile_with_its_kind(home: Path) -> None:
    (home / "profiles" / "mine.yaml").write_text("description: Mine")
    entries = {entry["name"]: entry for entry in json.loads(runner.invoke(app, ["list", "--json"]).stdout)}
    assert entries["laptop"]["kind"] == "bundled"
    assert entries["mine"] == {
        "name": "mine",
        "kind": "own",
        "description": "Mine",
        "path": str(home / "profiles" / "mine.yaml"),
        "problem": None,
    }


def test_show_prints_a_profile_that_loads_as_the_same_profile(tmp_path: Path) -> None:
    overrides = ["description=\"two\\nlines: [x] # 'y'\"", "workers.env={'on': 'yes', A: '1'}", "workers.gpus=[0, 1]"]
    arguments = [part for override in overrides for part in ("-c", override)]
    result = runner.invoke(app, ["show", "laptop", *arguments])
    assert result.exit_code == 0
    copy = tmp_path / "copy.yaml"
    copy.write_text(result.stdout)
    assert load_profile(str(copy)).digest == load_profile("laptop", overrides).digest


_text = st.text(st.sampled_from("ab #:'\"-[\n\t\x85\u2028é🦜") | st.characters(codec="utf-8"), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(text=_text, words=st.lists(_text, max_size=3))
def test_show_keeps_any_text_on_its_line(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "any.yaml"
    file.write_text(yaml.safe_dump({"description": text, "workers": {"extra_args": words, "env": {"A": text}}}))
    printed = runner.invoke(app, ["show", str(file)]).stdout
    assert yaml.safe_load(printed) == load_profile(str(file)).profile.model_dump(mode="json")
    for key in ("description", "  extra_args", "    A"):
        (line,) = [line for line in printed.splitlines() if line.startswith(f"{key}:")]
        assert re.search(r"  # any\.yaml:\d+$", line)


def test_show_says_for_every_leaf_where_it_came_from() -> None:
    lines = runner.invoke(app, ["show", "laptop-pressure", "-c", "runs.agents=3"]).stdout.splitlines()
    assert lines[0].startswith("# ") and "laptop-pressure.yaml, digest " in lines[0]
    said = {line.split(":")[0].strip(): line.split("  # ")[-1] for line in lines[1:] if not line.endswith(":")}
    assert said["kv_tokens"].startswith("laptop-pressure.yaml:")
    assert said["block_size"].startswith("laptop.yaml:")
    assert said["agents"] == "-c"
    assert said["port"] == "default"
    assert all("  # " in line for line in lines[1:] if not line.endswith(":"))


def test_show_puts_the_sources_of_short_lines_into_one_column() -> None:
    lines = runner.invoke(app, ["show", "laptop"]).stdout.splitlines()
    assert len({line.rindex("# ") for line in lines if line.endswith("# default")}) == 1


def test_show_as_json_has_profile_sources_and_digest() -> None:
    shown = json.loads(runner.invoke(app, ["show", "gpu-1", "--json"]).stdout)
    resolved = load_profile("gpu-1")
    assert shown == {
        "profile": resolved.profile.model_dump(mode="json"),
        "sources": dict(resolved.sources),
        "digest": resolved.digest,
    }


def test_show_leaves_errors_to_the_main_program() -> None:
    result = runner.invoke(app, ["show", "labtop"])
    assert isinstance(result.exception, ProfileError)
    assert result.stdout == ""


def test_validate_says_ok_with_the_digest() -> None:
    result = runner.invoke(app, ["validate", "laptop"])
    assert result.exit_code == 0
    assert result.stdout == f"laptop: ok  {load_profile('laptop').digest}\n"


def test_validate_goes_on_after_a_profile_that_is_wrong_and_exits_with_2(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("workers:\n  cuont: 2\nruns: {agents: some}\n")
    result = runner.invoke(app, ["validate", "nope", str(bad), "laptop"])
    assert result.exit_code == 2
    assert "nope: wrong" in result.stdout
    assert f"{bad}:2: workers.cuont: unknown key (did you mean 'workers.count'?)" in result.stdout
    assert f"{bad}:3: runs.agents: must be a whole number, not 'some'" in result.stdout
    assert "laptop: ok" in result.stdout


def test_validate_as_json_is_one_document_with_one_result_for_each_profile(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("engine: {kind: cudda}")
    result = runner.invoke(app, ["validate", "laptop", str(bad), "--json"])
    assert result.exit_code == 2
    good, wrong = json.loads(result.stdout)
    assert good == {"profile": "laptop", "ok": True, "digest": load_profile("laptop").digest}
    assert wrong["ok"] is False
    assert wrong["message"].startswith(f"{bad}:1: engine.kind: must be")
    assert wrong["hint"] == "did you mean 'cuda'?"


def test_validate_wants_at_least_one_profile() -> None:
    assert runner.invoke(app, ["validate"]).exit_code == 2


@pytest.mark.parametrize("command", ["list", "show", "validate"])
def test_help_has_examples_on_lines_of_their_own(command: str) -> None:
    result = runner.invoke(main.app, ["profile", command, "--help"])
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert any(line.startswith(f"thunderctl profile {command}") for line in lines)


def test_what_show_prints_is_plain_yaml_when_it_does_not_go_to_a_terminal() -> None:
    stdout = runner.invoke(app, ["show", "h100x8"]).stdout
    assert "\x1b" not in stdout
    assert yaml.safe_load(stdout) == load_profile("h100x8").profile.model_dump(mode="json")
