"""What a shell may offer for names: profiles, workloads, traces, runs, programs.

A shell asks at every press of a key's worth of patience: these look at folders, or ask a node that is up once and
briefly, and whatever goes wrong offers nothing.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator

from thunderctl import paths
from thunderctl.launcher import DEFAULT_NODE
from thunderctl.node import alive, node_dir, read_node
from thunderctl.profile_files import list_profiles
from thunderctl.traces.load import list_traces

PATIENCE_S = 1.0
MOST = 200
"""Names offered at once."""

Offer = tuple[str, str]
"""A name, and a word about it."""


def _offers(source: Callable[[], Iterator[Offer]]) -> Callable[[str], list[Offer]]:
    """Those that begin with what was typed; none on any trouble, for a shell has no place for an error."""

    def complete(incomplete: str) -> list[Offer]:
        try:
            return [offer for offer in source() if offer[0].startswith(incomplete)][:MOST]
        except Exception:  # whatever it is, the command itself will tell
            return []

    return complete


def _profiles() -> Iterator[Offer]:
    for entry in list_profiles():
        if entry.kind != "hidden":
            yield entry.name, entry.description or ""


def _workloads() -> Iterator[Offer]:
    for file in sorted(paths.bundled_workloads().glob("*/workload.yaml")):
        yield file.parent.name, "bundled"
    yield "trace", "with --trace"


def _traces() -> Iterator[Offer]:
    for path in list_traces():
        yield path.name.partition(".")[0], "bundled"


def _runs() -> Iterator[Offer]:
    """The newest first."""
    for folder in sorted(paths.runs().glob("*"), reverse=True):
        try:
            said = json.loads((folder / "manifest.json").read_text())
        except (OSError, ValueError):
            continue
        yield folder.name, f"{said.get('kind', '')}, {said.get('policy', '')}, {said.get('agents', '')} agents"


def _nodes() -> Iterator[Offer]:
    for folder in sorted(paths.nodes().glob("*")):
        record = read_node(folder.name)
        if record is not None and alive(record):
            yield folder.name, record.profile


def _programs() -> Iterator[Offer]:
    record = read_node(DEFAULT_NODE)
    if record is None or not alive(record):
        return
    with urllib.request.urlopen(f"{record.url}/programs", timeout=PATIENCE_S) as answer:  # noqa: S310 - our own node
        for name, row in json.load(answer).items():
            yield name, f"{row['state']}, {row['status']}"


def _logs() -> Iterator[Offer]:
    for file in sorted((node_dir(DEFAULT_NODE) / "logs").glob("*.log")):
        yield file.stem, ""


profiles = _offers(_profiles)
workloads = _offers(_workloads)
traces = _offers(_traces)
runs = _offers(_runs)
nodes = _offers(_nodes)
programs = _offers(_programs)
logs = _offers(_logs)
