"""What a running daemon tells of its programs: their timelines, decisions and metrics; who may ask for what."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.daemon.killable import KillableNode
from thunderctl.daemon.control import tool_name
from thunderctl.errors import DaemonError


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KillableNode]:
    """One worker with room for two programs, and three programs that each made four steps on it."""
    node = KillableNode(tmp_path_factory.mktemp("control") / "home", {"STUB_KV": "2500", "STUB_DELAY_S": "0.05"})
    node.prepare(workers={"count": 1})
    node.start()

    async def work() -> None:
        async with node.client() as client:

            async def agent(name: str) -> None:
                for step in range(4):
                    await client.complete(name, [1] * (700 + 100 * step), [2] * 5)
                    await client.tool(name, "started", "pytest")
                    await client.tool(name, "finished")

            await asyncio.gather(*(agent(f"p{n}") for n in range(3)))
            await client.release("p0")

    asyncio.run(work())
    yield node
    node.end()


def status_of(url: str, method: str = "GET", body: bytes | None = None) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, method=method), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_a_programs_timeline_tells_its_calls_tools_and_pauses_in_order(node: KillableNode) -> None:
    found = node.get("/programs/p1")
    timeline = found["timeline"]
    calls = [entry for entry in timeline if entry["what"] == "call"]
    assert [call["prompt_tokens"] for call in calls] == [700, 800, 900, 1000]
    assert all(call["outcome"] == "answered" and call["worker"] == "w0" for call in calls)
    assert sum(entry["what"] == "tool" for entry in timeline) == 4
    assert [entry["at"] for entry in timeline] == sorted(entry["at"] for entry in timeline)
    pauses = [entry for entry in timeline if entry["what"] == "paused"]
    assert len(pauses) == found["pauses"] and all(pause["reason"] for pause in pauses)
    assert (found["step_count"], found["context_len"]) == (4, 1005)


def test_what_was_decided_about_one_program_can_be_asked_for(node: KillableNode) -> None:
    everything = node.get("/decisions")
    of_one = node.get("/decisions?program=p1")
    assert of_one == [d for d in everything if d["program"] == "p1"]
    assert of_one and len(of_one) < len(everything)
    assert sum(d["effect"] == "Paused" for d in everything) > 0, "the load was meant to be too much"


def test_a_program_that_ended_is_remembered_and_an_unknown_one_is_a_404(node: KillableNode) -> None:
    found = node.get("/programs/p0")
    assert found["state"] == "terminated" and found["timeline"][-1]["what"] == "ended"
    assert status_of(node.url + "/programs/nobody") == 404


def test_metrics_are_prometheus_text_without_program_ids(node: KillableNode) -> None:
    with urllib.request.urlopen(node.url + "/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(name.startswith("thunderctl_") for name in families)
    totals = {name: family.samples[0].value for name, family in families.items() if family.type == "counter"}
    tally = node.get("/health")["tally"]
    assert totals["thunderctl_calls_finished"] == tally["finished"] == 12
    labels = {value for family in families.values() for s in family.samples for value in s.labels.values()}
    assert not labels & {"p0", "p1", "p2"} and "w0" in labels


def test_looking_at_metrics_changes_nothing(node: KillableNode) -> None:
    before = node.programs()
    for _ in range(5):
        urllib.request.urlopen(node.url + "/metrics", timeout=10).read()
        node.get("/samples?now=1")
    assert node.programs() == before


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/shutdown"), ("POST", "/environments"), ("DELETE", "/environments/x"), ("GET", "/environments/x")],
)
def test_what_starts_or_stops_things_wants_the_nodes_token(node: KillableNode, method: str, path: str) -> None:
    assert status_of(node.url + path, method, b"{}") == 403


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"program_id": {}}'])
def test_a_release_without_a_program_is_a_400(node: KillableNode, body: bytes) -> None:
    assert status_of(node.url + "/programs/release", "POST", body) == 400


def test_thunderagents_own_words_are_answered(node: KillableNode) -> None:
    row = node.get("/programs")["p1"]
    assert {"backend", "context_len", "total_tokens", "step_count", "status", "state"} <= set(row)
    assert (row["status"], row["step_count"]) == ("acting", 4)
    assert node.get("/profiles")["p1"]["step_count"] == 4
    health = node.get("/health")
    assert (health["status"], health["programs_count"], health["scheduling_enabled"]) == ("ok", 2, True)


async def test_the_client_says_plainly_that_a_program_is_unknown(node: KillableNode) -> None:
    async with node.client() as client:
        with pytest.raises(DaemonError, match="no program 'no/body'"):
            await client.program("no/body")


def test_the_node_tells_its_own_record(node: KillableNode) -> None:
    record = json.loads(Path(node.folder / "node.json").read_text())
    assert record["pid"] == node.get("/health")["pid"]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("pytest -q tests", "pytest"),
        ("cd /testbed && python -m pytest -q tests/x.py", "pytest"),
        ("FOO=1 BAR=2 /usr/bin/make -j4", "make"),
        ("grep -rn name src | head -5", "grep"),
        ("cat > a.py <<'EOF'\nimport os; print(1)\nEOF\n", "cat"),
        ("cat <<EOF > a.py\nls\nEOF\npython3 a.py", "python3"),
        ("cat > a.py <<'EOF'", "cat"),
        ("python3 run.py;", "python3"),
        ("time sudo ls\n", "ls"),
        ("", ""),
        ("   ;  ", ""),
        ("x" * 300, "x" * 64),
    ],
)
def test_commands_have_short_names_by_which_their_durations_are_learnt(command: str, name: str) -> None:
    assert tool_name(command) == name
