"""The real engine behind the gateway: all four APIs, other people's clients, and a daemon killed and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.commandline import LOCAL, CommandLine, until
from thunderctl.workers.engine import EngineEnvironment

pytestmark = pytest.mark.engine


LAPTOP = ["laptop", *LOCAL]
ASK = "Say something."
SAID = "Something."
CLIENTS = Path(__file__).with_name("clients_of_others.py")


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A node on the real engine, up for all tests of this file."""
    line = CommandLine(tmp_path_factory.mktemp("engine") / "home")
    line.json("up", *LAPTOP)
    yield line
    line.json("down")
    left = line.processes()
    for process in left:
        process.kill()
    assert not left


def url_of(cli: CommandLine) -> str:
    return str(json.loads((cli.home / "nodes" / "default" / "node.json").read_text())["url"])


def get(cli: CommandLine, path: str) -> Any:
    with urllib.request.urlopen(url_of(cli) + path, timeout=30) as answer:
        return json.load(answer)


def post(cli: CommandLine, path: str, body: dict[str, Any]) -> bytes:
    request = urllib.request.Request(url_of(cli) + path, json.dumps({"model": "small", **body}).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=120) as answer:
        return bytes(answer.read())


REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": ASK}], "max_tokens": 8},
    "/v1/completions": {"prompt": ASK, "max_tokens": 8},
    "/v1/responses": {"input": ASK, "max_output_tokens": 8},
    "/v1/messages": {"messages": [{"role": "user", "content": ASK}], "max_tokens": 8},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", REQUESTS)
def test_usage_of_every_api_reaches_the_scheduler(cli: CommandLine, path: str, stream: bool) -> None:
    program = f"{path.replace('/', '_')}-{stream}"
    answer = post(cli, path, {**REQUESTS[path], "stream": stream, "metadata": {"program_id": program}})
    story = get(cli, f"/programs/{program}")
    call = story["timeline"][-1]
    assert call["outcome"] == "answered" and call["prompt_tokens"] > 0 and call["output_tokens"] > 0
    assert story["context_len"] == call["prompt_tokens"] + call["output_tokens"]
    if not stream:
        usage = json.loads(answer)["usage"]
        prompt = usage.get("prompt_tokens") or usage["input_tokens"] + usage.get("cache_read_input_tokens", 0)
        assert prompt == call["prompt_tokens"]
    else:
        assert answer.endswith(b"\n\n")
    assert ("prefill_s" in call) == stream


def test_tokens_are_counted_past_the_scheduler(cli: CommandLine) -> None:
    before = set(get(cli, "/programs"))
    assert json.loads(post(cli, "/tokenize", {"prompt": ASK}))["count"] > 0
    told = post(cli, "/v1/messages/count_tokens", {"messages": [{"role": "user", "content": ASK}]})
    assert json.loads(told)["input_tokens"] > 0
    assert set(get(cli, "/programs")) == before


def test_the_clients_of_openai_and_anthropic_work_unchanged(
    cli: CommandLine, engine_environment: EngineEnvironment
) -> None:
    """They live in the engine's environment, so that thunderctl needs neither."""
    done = subprocess.run(
        [str(engine_environment.python), str(CLIENTS), url_of(cli)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    programs = get(cli, "/programs")
    for name in ("openai-sync", "openai-async", "openai-stream", "openai-responses", "anthropic", "anthropic-stream"):
        assert told[name] and programs[name]["step_count"] == 1, name
    assert get(cli, "/programs/openai-sync")["docker_ids"] == ["c0ffee"]
    assert told["released"] == {"program_id": "short", "released": True}


def test_after_kill_9_of_the_daemon_up_brings_back_programs_places_and_the_same_engine(cli: CommandLine) -> None:
    body = {"messages": [{"role": "user", "content": ASK * 200}], "max_tokens": 8, "program_id": "lasting"}
    for _ in range(2):
        post(cli, "/v1/chat/completions", body)
    before, workers, record = get(cli, "/programs"), get(cli, "/workers"), get(cli, "/health")
    url = url_of(cli)
    os.kill(record["pid"], signal.SIGKILL)
    until(lambda: not psutil.pid_exists(record["pid"]) or psutil.Process(record["pid"]).status() == "zombie", 10)
    again = cli.json("up", *LAPTOP)
    assert again["was_up"] is False and url_of(cli) == url
    assert [w["pid"] for w in get(cli, "/workers")] == [w["pid"] for w in workers]
    after = get(cli, "/programs")
    same = ("backend", "context_len", "step_count", "state", "status", "pauses", "group")
    assert {name: [row[key] for key in same] for name, row in after.items()} == {
        name: [row[key] for key in same] for name, row in before.items()
    }
    # Its prefix is still in the engine's cache: what a restart is worth.
    usage = json.loads(post(cli, "/v1/chat/completions", body))["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > 0.9 * usage["prompt_tokens"] - 64
