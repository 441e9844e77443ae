"""``thunderctl metrics``: what Prometheus and Grafana are given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.daemon.killable import KillableNode
from thunderctl.cli import metrics
from thunderctl.errors import DaemonError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_dashboard_is_printed_as_json_and_needs_no_node(home: Path) -> None:
    done = CliRunner().invoke(metrics.app, ["dashboard"])
    assert done.exit_code == 0 and json.loads(done.stdout)["title"] == "thunderctl"


def test_without_a_node_the_scrape_example_says_what_to_put_in(home: Path) -> None:
    done = CliRunner().invoke(metrics.app, ["scrape"])
    said = yaml.safe_load(done.stdout)
    assert said["scrape_configs"][0]["static_configs"] == [{"targets": [metrics.EXAMPLE_TARGET]}]
    assert "no node is up" in done.stdout
    asked = CliRunner().invoke(metrics.app, ["show"])
    assert isinstance(asked.exception, DaemonError) and asked.exception.hint


def test_a_node_with_a_key_is_scraped_with_a_file_that_holds_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = KillableNode(home, {"SCRAPE_KEY": "a key of some length"})
    node.prepare(workers={"count": 1}, gateway={"api_key_env": "SCRAPE_KEY"})
    node.start()
    try:
        done = CliRunner().invoke(metrics.app, ["scrape", "--node", "n"])
        job = yaml.safe_load(done.stdout)["scrape_configs"][0]
        assert job["static_configs"][0]["targets"] == [node.url.removeprefix("http://")]
        assert "credentials_file" in job["authorization"] and "a key of some length" not in done.stdout
        refused = CliRunner().invoke(metrics.app, ["show", "--node", "n"])
        assert isinstance(refused.exception, DaemonError) and refused.exception.hint == "export SCRAPE_KEY=…"
        monkeypatch.setenv("SCRAPE_KEY", "a key of some length")
        shown = CliRunner().invoke(metrics.app, ["show", "--node", "n", "--json"])
        assert json.loads(shown.stdout)["thunderctl_node_ready"]["samples"][0]["value"] == 1.0
    finally:
        node.end()
