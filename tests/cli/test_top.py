"""``top`` shows a node that is up, whoever drives it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.cli.conftest import Counting
from tests.cli.terminal import Terminal
from tests.commandline import CommandLine


def test_one_look_tells_what_somebody_elses_run_does(counting: Counting) -> None:
    run = counting.cli.start(*counting.run(8, 300))
    try:
        for _ in range(60):
            seen = counting.cli.json("top", "--once")
            at_work = seen["programs"]["reasoning"] + seen["programs"]["acting"]
            if at_work == len(seen["latest"]) == 8 and seen["rates"]["hit_rate"]:
                break
        assert at_work == 8
        assert seen["rates"]["hit_rate"] > 0.8 and seen["rates"]["steps_per_min"] > 0
        assert len(seen["latest"]) == 8 and all("-trace-short-" in row["task"] for row in seen["latest"])
        assert seen["agents"] is None
        with Terminal(counting.argv("top"), counting.cli.env, 80, 24) as terminal:
            terminal.wait_for(lambda top: "steps/min" in top.text() and "\np00" in top.text())
            assert terminal.rows()[0].startswith("thunderctl · node default")
            terminal.type(b"\x03")
            assert terminal.end() == 130
        assert not terminal.screen.alternate
    finally:
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=120)


def test_json_lines_have_every_key_from_the_first_to_the_last(counting: Counting) -> None:
    top = counting.cli.start("top", "--progress", "json")
    assert top.stderr is not None
    first = json.loads(top.stderr.readline())
    top.send_signal(signal.SIGINT)
    rest = [json.loads(line) for line in top.communicate(timeout=60)[1].splitlines()]
    assert top.returncode == 130
    assert first["type"] == "progress" and first["schema"] == 1
    assert all(record.keys() == first.keys() for record in rest)
    assert [w["capacity"] for w in first["workers"]] == [200_000]


def test_without_a_node_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = CommandLine(tmp_path).run("top")
    assert done.returncode == 1 and "thunderctl up" in done.stderr.splitlines()[-1]
