"""``thunderctl explain`` and ``ps``: against a real daemon, and sentence by sentence."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commandline import CommandLine, until
from tests.daemon.killable import KillableNode
from thunderctl.cli.explain import sentence


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KillableNode]:
    node = KillableNode(tmp_path_factory.mktemp("explain") / "home")
    node.prepare(workers={"count": 1})
    node.start()

    async def work() -> None:
        async with node.client() as client:
            await client.complete("coder", [1] * 1500, [2] * 5)
            await client.complete("done", [1] * 100, [2] * 5)
            await client.release("done")

    asyncio.run(work())
    yield node
    node.end()


def explained(node: KillableNode, *args: str) -> subprocess.CompletedProcess[str]:
    """``thunderctl explain`` in a process of its own."""
    begin = "from thunderctl.cli import explain, main; main.app.command('explain')(explain.explain); main.main()"
    argv = [sys.executable, "-c", begin, "explain", *args, "--node", "n"]
    return subprocess.run(argv, env=CommandLine(node.home).env, capture_output=True, text=True, check=False)


def test_a_programs_story_is_told_in_words(node: KillableNode) -> None:
    told = explained(node, "coder")
    assert told.returncode == 0, told.stderr
    assert "coder is active on w0, acting" in told.stdout
    assert "w0 answered in" in told.stdout and "1,500 tokens in (0 cached), 5 out" in told.stdout
    assert "placed on w0" in told.stdout


def test_json_is_what_the_daemon_says(node: KillableNode) -> None:
    told = explained(node, "coder", "--json")
    assert json.loads(told.stdout)["timeline"] == node.get("/programs/coder")["timeline"]


def test_a_program_that_ended_is_explained_too(node: KillableNode) -> None:
    told = explained(node, "done")
    assert told.returncode == 0 and "done has ended" in told.stdout


def test_an_unknown_program_is_one_clear_error(node: KillableNode) -> None:
    told = explained(node, "nobody")
    assert told.returncode != 0
    assert "no program 'nobody'" in told.stderr and "Traceback" not in told.stderr


def test_ps_watch_draws_until_it_is_interrupted(node: KillableNode) -> None:
    home = CommandLine(node.home)
    assert set(json.loads(home.run("ps", "--node", "n", "--json").stdout)) == {"coder"}
    watching = home.start("ps", "--watch", "--node", "n")
    try:
        until(lambda: any("ps" in p.cmdline() for p in home.processes() if p.pid == watching.pid))
        with pytest.raises(Exception, match="timed out"):
            watching.wait(2)
    finally:
        watching.terminate()
        watching.communicate()


CALL = {"what": "call", "worker": "w0", "held_s": 3.0, "seconds": 5.0, "outcome": "answered",
        "prompt_tokens": 10, "cached_tokens": 4, "output_tokens": 2}  # fmt: skip
PLACED = {"what": "restored", "worker": "w1", "tokens": 1200, "waited_s": 0.0, "forced": False, "moved": False,
          "reason": "first placement"}  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (CALL, "waited 3.0 s, then w0 answered in 2.0 s: 10 tokens in (4 cached), 2 out"),
        ({**CALL, "held_s": 0.0}, "w0 answered in 5.0 s: 10 tokens in (4 cached), 2 out"),
        ({**CALL, "outcome": "cancelled", "worker": None, "held_s": 5.0},
         "waited 5.0 s, then the client gave its call up while it waited"),
        ({**CALL, "outcome": "failed"}, "w0 failed the call after 2.0 s"),
        ({**CALL, "outcome": "bounced"}, "w0 did not take the call; it is tried again"),
        (PLACED, "placed on w1 (1,200 tokens): first placement"),
        ({**PLACED, "waited_s": 9.0, "moved": True, "forced": True},
         "placed on w1 (1,200 tokens) after waiting 9.0 s, away from where its cache was, although it did not fit"),
        ({"what": "paused", "worker": "w0", "tokens": 1200, "reason": "full"},
         "paused: its 1,200 tokens on w0 were given up: full"),
        ({"what": "refused", "status": 409, "reason": "released"}, "a call was refused with 409: released"),
        ({"what": "tool", "seconds": 0.5}, "a tool ran for 500 ms"),
        ({"what": "ended"}, "ended"),
    ],
)  # fmt: skip
def test_every_entry_has_its_sentence(entry: dict[str, object], words: str) -> None:
    assert words in sentence(entry)


def test_the_explained_home_is_left_as_it_was(node: KillableNode) -> None:
    assert sorted(p.name for p in Path(node.home / "nodes").iterdir()) == ["n"]
