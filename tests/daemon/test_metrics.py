"""``/metrics`` after Prometheus' own rules for names, and the dashboard that is drawn from it."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections.abc import Iterator
from importlib import resources
from itertools import combinations
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.commandline import until
from tests.daemon.killable import KillableNode

ABBREVIATED = {
    "s",
    "ms",
    "us",
    "ns",
    "sec",
    "secs",
    "b",
    "kb",
    "mb",
    "gb",
    "kib",
    "mib",
    "gib",
    "pct",
    "percent",
    "min",
}
NOT_BASE = {"milliseconds", "microseconds", "minutes", "hours", "days", "kilobytes", "megabytes", "gigabytes", "bits"}
KINDS = {"counter", "gauge", "histogram", "summary", "info"}
RESERVED = ("_bucket", "_count", "_sum", "_created")


def lint(text: str) -> list[str]:
    """Faults after the rules that ``promtool check metrics`` applies, and Prometheus' page on naming states."""
    faults = []
    typed: dict[str, str] = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    helped: dict[str, str] = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    sampled = set(re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{| )", text, re.MULTILINE))
    for name in sampled:
        whole = name
        for ending in RESERVED:
            if typed.get(name.removesuffix(ending)) in ("histogram", "summary"):
                whole = name.removesuffix(ending)
        if whole not in typed:
            faults.append(f"{name}: no TYPE")
    for name, kind in typed.items():
        if not helped.get(name, "").strip():
            faults.append(f"{name}: no HELP")
        if (kind == "counter") != name.endswith("_total"):
            faults.append(f"{name}: a {kind}, and _total is for counters, all of them and no others")
        if not re.fullmatch(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*", name):
            faults.append(f"{name}: not in snake case")
        words = name.split("_")
        if kind in words or KINDS & {words[-1]} - {"info"}:
            faults.append(f"{name}: its type is part of its name")
        if ABBREVIATED & set(words) or NOT_BASE & set(words):
            faults.append(f"{name}: its unit is abbreviated, or no base unit")
        if kind not in ("histogram", "summary") and name.endswith(RESERVED):
            faults.append(f"{name}: an ending that is kept for histograms")
    for family in text_string_to_metric_families(text):
        keys = [(s.name, *sorted(s.labels.items())) for s in family.samples]
        if len(keys) != len(set(keys)):
            faults.append(f"{family.name}: a sample stands twice")
        labels = {label for s in family.samples for label in s.labels}
        if family.type not in ("histogram", "summary") and labels & {"le", "quantile"}:
            faults.append(f"{family.name}: a label that is kept for histograms")
        faults += [f"{family.name}: label {label}" for label in labels if not re.fullmatch(r"[a-z][a-z0-9_]*", label)]
    return faults


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KillableNode]:
    """One worker with room for two programs, and three that worked on it."""
    node = KillableNode(tmp_path_factory.mktemp("metrics") / "home", {"STUB_KV": "2500"})
    node.prepare(workers={"count": 1})
    node.start()

    async def work() -> None:
        async with node.client() as client:

            async def agent(name: str) -> None:
                for _ in range(3):
                    await client.complete(name, [1] * 900, [2] * 5)
                    await client.tool(name, "started", "pytest")
                    await client.tool(name, "finished")

            await asyncio.gather(*(agent(f"p{n}") for n in range(3)))

    asyncio.run(work())
    yield node
    node.end()


@pytest.fixture(scope="module")
def text(node: KillableNode) -> str:
    def scrape() -> str:
        with urllib.request.urlopen(node.url + "/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    # The disk is measured beside the first scrape, which does not wait for it.
    until(lambda: "thunderctl_environment_disk_bytes{" in scrape(), 30)
    return scrape()


@pytest.fixture(scope="module")
def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(resources.files("thunderctl.daemon").joinpath("grafana.json").read_text())
    return found


def test_the_metrics_follow_prometheus_rules_for_names(text: str) -> None:
    assert lint(text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("# TYPE a_total counter\na_total 1\n", "no HELP"),
        ("# HELP a x\n# TYPE a counter\na 1\n", "_total is for counters"),
        ("# HELP a_total x\n# TYPE a_total gauge\na_total 1\n", "_total is for counters"),
        ("# HELP a_ms x\n# TYPE a_ms gauge\na_ms 1\n", "unit"),
        ("# HELP aB x\n# TYPE aB gauge\naB 1\n", "snake case"),
        ("# HELP a_count x\n# TYPE a_count gauge\na_count 1\n", "kept for histograms"),
        ("# HELP a_gauge x\n# TYPE a_gauge gauge\na_gauge 1\n", "its type"),
        ("a 1\n", "no TYPE"),
    ],
)
def test_the_lint_finds_what_it_is_there_for(text: str, fault: str) -> None:
    assert any(fault in found for found in lint(text))


def test_durations_of_calls_and_tools_are_counted_once_each(families: dict[str, Metric]) -> None:
    counts = {s.name: s.value for family in families.values() for s in family.samples if s.name.endswith("_count")}
    assert counts["thunderctl_call_duration_seconds_count"] == 9
    assert counts["thunderctl_call_held_seconds_count"] == 9
    assert counts["thunderctl_tool_duration_seconds_count"] == 9
    sums = {s.name: s.value for family in families.values() for s in family.samples if s.name.endswith("_sum")}
    assert sums["thunderctl_call_held_seconds_sum"] <= sums["thunderctl_call_duration_seconds_sum"]


def test_every_state_is_there_before_anything_was_in_it(families: dict[str, Metric]) -> None:
    states = {(s.labels["status"], s.labels["phase"]) for s in families["thunderctl_programs"].samples}
    assert states == {(status, phase) for status in ("active", "paused") for phase in ("reasoning", "acting")}
    assert {s.labels["state"] for s in families["thunderctl_environments"].samples} == {
        "requested", "preparing", "ready", "in_use",
    }  # fmt: skip


def leaves(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_every_query_of_the_dashboard_names_metrics_and_labels_that_exist(
    dashboard: dict[str, Any], families: dict[str, Metric], text: str
) -> None:
    queries = [target["expr"] for panel in leaves(dashboard) for target in panel["targets"]]
    queries += [v["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    labels: dict[str, set[str]] = {}
    for family in families.values():
        for sample in family.samples:
            labels.setdefault(sample.name, {"instance", "job"}).update(sample.labels)
    typed = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    used = set()
    for query in queries:
        names = re.findall(r"thunderctl_\w+", query)
        assert names, query
        for name, wanted in re.findall(r"(thunderctl_\w+)\{([^}]*)\}", query):
            asked = set(re.findall(r"(\w+)=", wanted))
            assert asked <= labels.get(name, {"instance"}), f"{name} has no such label: {wanted}"
        grouped = {label.strip() for group in re.findall(r" by \(([^)]*)\)", query) for label in group.split(",")}
        assert grouped <= {"le"} | set().union(*(labels.get(name, set()) for name in names)), query
        used.update(names)
    assert used <= labels.keys() | typed, used - labels.keys() - typed


def test_the_dashboard_survives_grafanas_own_types_whole(dashboard: dict[str, Any]) -> None:
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    plugins.register_default_plugins()

    def lost(given: Any, kept: Any, path: str = "") -> list[str]:
        """What Grafana's types do not know, or hold for something else."""
        if isinstance(given, dict):
            return [
                fault
                for name, value in given.items()
                for fault in (lost(value, kept[name], f"{path}.{name}") if name in kept else [f"{path}.{name}"])
            ]
        if isinstance(given, list) and len(given) == len(kept):
            return [
                fault
                for number, (one, other) in enumerate(zip(given, kept, strict=True))
                for fault in lost(one, other, f"{path}[{number}]")
            ]
        return [] if given == kept else [path]

    def through(said: dict[str, Any]) -> Any:
        return json.loads(json.dumps(Dashboard.from_json(said), cls=JSONEncoder))

    assert lost(dashboard, through(dashboard)) == []
    misspelt = {**dashboard, "refreshh": "10s"}
    assert lost(misspelt, through(misspelt)) == [".refreshh"]


def test_panels_of_the_dashboard_have_ids_of_their_own_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert dashboard.get("id") is None, "an id belongs to one Grafana alone"
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["w"] >= 1 and place["h"] >= 1 and place["x"] + place["w"] <= 24
    for a, b in combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        )  # fmt: skip
        assert apart, (a, b)
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    said = set(re.findall(r"\$\{?(\w+)\}?", json.dumps(dashboard))) - {"__rate_interval", "__range", "__all"}
    assert said == variables
