"""The view of a run on a real terminal: right at every width, steady, and gone when the run is."""

from __future__ import annotations

import re
import shlex
import sys

import pytest

from tests.cli.conftest import Counting
from tests.cli.terminal import Terminal

LABELS = ("speed", "agents", "programs", "environments", "w0 ", "errors", "agent ", "agent-", " " * 13)

SCREEN = """
import os, sys, time
from thunderctl.cli.live_screen import Screen
from rich.text import Text
print("before")
with Screen() as screen:
    print("said meanwhile", file=sys.stderr)
    for frame in range({frames}):
        screen.draw(lambda width, height: [Text(f"frame {{frame}} {{width}}x{{height}}")])
        time.sleep(0.05)
    {then}
print("after")
"""


def is_whole(terminal: Terminal) -> bool:
    """Whether everything that there is to see is on the screen."""
    text = terminal.text()
    return "steps/min" in text and "KV" in text and re.search(r"^agent-\d{3} ", text, re.MULTILINE) is not None


def check_frame(rows: list[str]) -> None:
    """A frame is the title, the bar, and labelled lines: nothing of another frame, nothing wrapped."""
    assert rows[0].startswith("thunderctl · trace-short · trace"), rows
    assert re.search(r"[\d,]+ steps · ", rows[1]), rows
    assert [row for row in rows[2:] if row and not row.startswith(LABELS)] == []
    assert sum(row.startswith("speed") for row in rows) == 1
    assert sum(row.startswith("agent-") for row in rows) == 10


def test_a_run_of_256_agents_is_steady_at_any_width_and_leaves_the_terminal_as_it_was(counting: Counting) -> None:
    argv = counting.argv(*counting.run(256, 12))
    with Terminal(argv, counting.cli.env, 80, 24) as terminal:
        terminal.wait_for(is_whole)
        for rows in terminal.frames(5):
            check_frame(rows)
        assert any("256 places: 256 running" in row for row in terminal.rows())
        for columns, lines in ((200, 50), (80, 24)):
            terminal.resize(columns, lines)
            terminal.frames(2)  # one may have been on its way
            for rows in terminal.frames(4):
                check_frame(rows)
                bar = next(row for row in rows if row.startswith("w0 "))
                assert columns // 2 < len(bar) <= columns
        assert terminal.end() == 0
    assert not terminal.screen.alternate
    assert not any(row.startswith("speed") for row in terminal.rows()), "the view is gone"
    assert "stored in" in terminal.text()
    drawn = terminal.raw[terminal.raw.index(b"\x1b[?1049h") : terminal.raw.rindex(b"\x1b[?1049l")]
    assert drawn.count(b"\x1b[2J") == 1, "the screen is cleared once, not in every frame"
    assert b"\n" not in drawn, "nothing scrolls"
    assert terminal.raw.rindex(b"\x1b[?25h") > terminal.raw.rindex(b"\x1b[?25l"), "the cursor is back"


def test_ctrl_c_gives_the_terminal_back(counting: Counting) -> None:
    with Terminal(counting.argv(*counting.run(4, 300)), counting.cli.env, 100, 30) as terminal:
        terminal.wait_for(is_whole)
        assert terminal.screen.alternate
        terminal.type(b"\x03")
        assert terminal.end() != 0
    assert not terminal.screen.alternate
    assert terminal.raw.rindex(b"\x1b[?25h") > terminal.raw.rindex(b"\x1b[?25l")


def test_without_a_terminal_a_run_tells_in_plain_lines(counting: Counting) -> None:
    done = counting.cli.run(*counting.run(256, 4))
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    last = [line for line in done.stderr.splitlines() if "steps/min" in line][-1]
    assert "agents: 256 cut off" in last and "KV" in last and "hit rate 90" in last


def a_screen(counting: Counting, frames: int, then: str = "pass") -> Terminal:
    argv = [sys.executable, "-c", SCREEN.format(frames=frames, then=then)]
    return Terminal(argv, counting.cli.env, 40, 6)


def test_what_is_printed_under_the_view_can_be_shown_in_it_and_comes_out_after_it(counting: Counting) -> None:
    with a_screen(counting, 3, 'print("shown:", screen.said)') as terminal:
        assert terminal.end() == 0
    assert terminal.rows()[:4] == ["before", "shown: said meanwhile", "said meanwhile", "after"]


@pytest.mark.parametrize(
    "then", ["raise SystemExit(3)", "1 / 0", "os.kill(os.getpid(), 15)", "os.kill(os.getpid(), 1)"]
)
def test_the_terminal_is_given_back_however_the_process_ends(counting: Counting, then: str) -> None:
    with a_screen(counting, 1, then) as terminal:
        assert terminal.end() != 0
    assert not terminal.screen.alternate
    assert terminal.raw.rindex(b"\x1b[?25h") > terminal.raw.rindex(b"\x1b[?25l")
    assert terminal.rows()[:2] == ["before", "said meanwhile"]


def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_again(counting: Counting) -> None:
    view = shlex.join([sys.executable, "-c", SCREEN.format(frames=60, then="pass")])
    argv = ["bash", "-mc", f"{view}; echo the shell; read -r; fg >/dev/null"]
    with Terminal(argv, counting.cli.env, 40, 6) as terminal:
        terminal.wait_for(lambda seen: "frame" in seen.text())
        terminal.type(b"\x1a")
        terminal.wait_for(lambda seen: "the shell" in seen.text())
        assert not terminal.screen.alternate
        terminal.type(b"\n")
        terminal.wait_for(lambda seen: seen.screen.alternate and "frame" in seen.text())
        assert terminal.end() == 0
    assert not terminal.screen.alternate
