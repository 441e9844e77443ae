"""What a collection did equals its plan minus what came into use, whatever the home looks like."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.environments.conftest import dead_node, live_node, record_of
from thunderctl import paths
from thunderctl.environments.collector import carry_out, plan
from thunderctl.environments.lease import LeaseLedger, State
from thunderctl.node import write_node
from thunderctl.workers.scratch import MARK, make_scratch


@dataclass(frozen=True)
class SomeNode:
    state: Literal["alive", "dead", "unknown"]
    leases: tuple[tuple[State, bool], ...]
    """State, and whether it is old."""
    revived: bool
    """Started again between plan and removal."""


LEASE = st.tuples(st.sampled_from(["requested", "preparing", "ready", "failed", "reclaimed"]), st.booleans())
NODE = st.builds(
    SomeNode,
    st.sampled_from(["alive", "dead", "unknown"]),
    st.lists(LEASE, max_size=3).map(tuple),
    st.booleans(),
)
WAY: dict[str, tuple[State, ...]] = {
    "requested": (),
    "preparing": ("preparing",),
    "ready": ("preparing", "ready"),
    "failed": ("preparing", "failed"),
    "reclaimed": ("reclaimed",),
}


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """No engine, and a place for temporary files that nobody else has."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("DOCKER_HOST", f"unix://{folder}/nobody.sock")
        patch.setattr("tempfile.tempdir", folder)
        yield


def build(name: str, wanted: SomeNode) -> Path:
    folder = live_node(name) if wanted.state == "alive" else dead_node(name)
    if wanted.state == "unknown":
        (folder / "node.json").unlink()
    ledger = LeaseLedger(folder / "state.db")
    for state, old in wanted.leases:
        lease = ledger.open("p", "r", "local")
        for step in WAY[state]:
            ledger.move(lease.id, step)
        place = folder / "environments" / lease.id
        place.mkdir(parents=True)
        (place / "data").write_bytes(b"x" * 1000)
        if old:
            with sqlite3.connect(folder / "state.db") as db:
                db.execute("UPDATE leases SET created = 1, updated = 1 WHERE id = ?", (lease.id,))
            db.close()
    ledger.close()
    return folder


@settings(max_examples=40, deadline=None)
@given(st.lists(NODE, max_size=3), st.booleans())
def test_a_collection_does_its_plan_minus_what_came_into_use(nodes: list[SomeNode], left_scratch: bool) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as home:
        patch.setenv("THUNDERCTL_HOME", home)
        folders = {f"n{number}": build(f"n{number}", wanted) for number, wanted in enumerate(nodes)}
        if left_scratch:
            (make_scratch() / MARK).write_text(f'{{"owner": "{paths.owner()}", "pid": 1, "create_time": 5.0}}')
        todo = plan()
        revived = {name for (name, wanted) in zip(folders, nodes, strict=True) if wanted.revived}
        for name in revived:
            write_node(folders[name], record_of(os.getpid()))
        result = carry_out(todo)

        done = [(item.kind, item.id) for item in result.removed]
        spared = [(kept.item.kind, kept.item.id) for kept in result.came_into_use]
        assert result.failed == []
        planned = [(item.kind, item.id) for item in todo.items]
        assert len(set(planned)) == len(planned)
        assert sorted(done + spared) == sorted(planned)  # each of them in exactly one list
        assert result.bytes == sum(item.bytes for item in result.removed)
        for item in result.removed:
            assert item.kind == "node" or not Path(item.id).exists()
        for kept in [*todo.kept, *result.came_into_use]:
            assert Path(kept.item.id).exists() or (paths.nodes() / kept.item.id).exists()
        for name, wanted in zip(folders, nodes, strict=True):
            if wanted.state == "alive" or wanted.revived:
                ledger = LeaseLedger(folders[name] / "state.db")
                active = [lease.id for lease in ledger.leases(active=True)]
                ledger.close()
                assert all((folders[name] / "environments" / lease).exists() for lease in active)
                assert (folders[name] / "node.json").exists()
