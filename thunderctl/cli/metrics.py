"""``thunderctl metrics``: the node's Prometheus metrics, and what Prometheus and Grafana need to show them."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import typer
from prometheus_client.parser import text_string_to_metric_families

from thunderctl import launcher
from thunderctl.cli.node import NodeName
from thunderctl.cli.show import AsJson, print_json
from thunderctl.errors import DaemonError
from thunderctl.launcher import DEFAULT_NODE
from thunderctl.node import node_dir

app = typer.Typer(no_args_is_help=True, help="Prometheus metrics, a scrape example and a Grafana dashboard.")

EXAMPLE_TARGET = "127.0.0.1:8080"
"""Stands in the scrape example while no node is up."""


def _key_name(node: str) -> str | None:
    """The variable that holds the node's API key, if it wants one."""
    try:
        launch = json.loads((node_dir(node) / "launch.json").read_text())
    except (OSError, ValueError):
        return None
    name: str | None = launch["profile"]["gateway"]["api_key_env"]
    return name


@app.command("show")
def show(node: NodeName = DEFAULT_NODE, as_json: AsJson = False) -> None:
    """Print the metrics of a node that is up, as Prometheus would read them.

    Examples:

        thunderctl metrics show
        thunderctl metrics show --json
    """
    handle = launcher.need(node)
    request = urllib.request.Request(handle.record.url + "/metrics")  # noqa: S310 - our own node
    name = _key_name(node)
    if name and os.environ.get(name):
        request.add_header("Authorization", f"Bearer {os.environ[name]}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own node
            text = answer.read().decode()
    except urllib.error.HTTPError as refused:
        hint = f"export {name}=…" if refused.code == 401 and name else None
        raise DaemonError(f"GET /metrics: HTTP {refused.code}", hint=hint) from None
    except OSError as failure:
        raise DaemonError(f"GET /metrics: {failure}", hint=f"thunderctl logs --node {node}") from None
    if as_json:
        print_json({family.name: _family(family) for family in text_string_to_metric_families(text)})
    else:
        typer.echo(text, nl=False)


def _family(family: Any) -> dict[str, Any]:
    samples = [{"name": s.name, "labels": s.labels, "value": s.value} for s in family.samples]
    return {"type": family.type, "help": family.documentation, "samples": samples}


@app.command("dashboard")
def dashboard() -> None:
    """Print the Grafana dashboard (JSON): import it under Dashboards, New, Import, and choose your Prometheus.

    Examples:

        thunderctl metrics dashboard > thunderctl.json
        thunderctl metrics dashboard | jq .title
    """
    typer.echo(resources.files("thunderctl.daemon").joinpath("grafana.json").read_text(encoding="utf-8"), nl=False)


@app.command("scrape")
def scrape(node: NodeName = DEFAULT_NODE) -> None:
    """Print a scrape configuration for Prometheus (YAML), with the node's address if it is up.

    Examples:

        thunderctl metrics scrape > prometheus.yml
        thunderctl metrics scrape --node gpu
    """
    handle = launcher.current(node)
    typer.echo(scrape_example(urlsplit(handle.record.url).netloc if handle else None, _key_name(node)), nl=False)


def scrape_example(target: str | None, key_name: str | None) -> str:
    """``prometheus.yml`` for one node. ``target``: its host and port; ``key_name``: the variable with its API key."""
    lines = [
        "# prometheus --config.file=prometheus.yml",
        "global:",
        "  scrape_interval: 5s",
        "scrape_configs:",
        "  - job_name: thunderctl",
        "    metrics_path: /metrics",
    ]
    if key_name:
        lines += [
            "    authorization:",
            f"      # a file that holds what ${key_name} holds, readable for Prometheus alone",
            "      credentials_file: thunderctl-api-key",
        ]
    lines.append("    static_configs:")
    if target is None:
        lines.append("      # no node is up: put its address here; `thunderctl status` shows it")
    else:
        lines.append("      # gateway.port in the profile keeps the port from changing with every start")
    lines.append(f'      - targets: ["{target or EXAMPLE_TARGET}"]')
    return "\n".join(lines) + "\n"
