"""A drawing fits every terminal, whatever it is a drawing of."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from thunderctl.cli.live_draw import clean, draw, duration
from thunderctl.cli.live_lines import json_line, plain_line
from thunderctl.cli.live_picture import AgentRow, Picture, Programs, Rates, WorkerRow

TOKENS = st.integers(0, 10**7)
WORKERS = st.lists(
    st.builds(WorkerRow, st.text(max_size=20), st.sampled_from(["up", "starting", "lost"]), TOKENS, TOKENS, TOKENS),
    max_size=40,
)
AGENTS = st.lists(st.builds(AgentRow, st.text(), st.text(), st.text(), st.integers(0, 9999), st.text()), max_size=12)
PICTURES = st.builds(
    Picture,
    about=st.tuples(st.text(), st.text()),
    phase=st.sampled_from(["working", "judging", "ended", "stopping"]),
    elapsed_s=st.floats(0, 10**6),
    left_s=st.none() | st.floats(0, 10**6),
    share=st.none() | st.floats(0, 1),
    agents=st.none() | st.integers(1, 4096),
    rollouts=st.dictionaries(st.sampled_from(["running", "failed", "submitted"]), st.integers(0, 999)),
    programs=st.none() | st.builds(Programs, TOKENS, TOKENS, TOKENS, TOKENS),
    rates=st.none() | st.just(Rates(60.0, 123.4, 5678.9, None)),
    workers=WORKERS,
    backend=st.none() | st.just("docker"),
    error_count=st.integers(0, 9),
    errors=st.lists(st.text(), max_size=5),
    latest=AGENTS,
    notice=st.none() | st.text(),
)


@settings(max_examples=60, deadline=None)
@given(PICTURES, st.integers(1, 250), st.integers(1, 70))
def test_no_line_is_wider_than_the_terminal_and_there_are_no_more_than_it_has(
    picture: Picture, width: int, height: int
) -> None:
    lines = draw(picture, width, height)
    assert len(lines) <= height
    assert all(line.cell_len <= width for line in lines)
    assert all(c.isprintable() for line in lines for c in line.plain)


@settings(max_examples=30, deadline=None)
@given(PICTURES)
def test_as_a_line_it_is_one_line(picture: Picture) -> None:
    assert len(json_line(picture).splitlines()) == 1
    assert all(c.isprintable() for c in plain_line(picture))


@given(st.text())
def test_nothing_that_a_terminal_would_obey_is_left_of_a_text(text: str) -> None:
    assert clean(text).isprintable()


def test_a_models_escape_sequence_is_shown_as_text_and_not_obeyed() -> None:
    row = AgentRow("agent-000", "t", "running", 1, "echo \x1b[2J\x1b]0;mine\x07 \u202egnp.exe\nrm")
    lines = [line.plain for line in draw(Picture(("run",), "working", 1.0, agents=1, latest=[row]), 120, 30)]
    assert lines[-1].endswith("echo [2J]0;mine gnp.exe rm")


def workers(count: int) -> list[WorkerRow]:
    return [WorkerRow(f"w{n}", "up", 500 + n, 200, 1000) for n in range(count)]


def test_every_worker_has_its_bar_as_long_as_there_is_room_and_then_the_fullest_have() -> None:
    few = [line.plain for line in draw(Picture(("run",), "working", 1.0, agents=1, workers=workers(4)), 80, 24)]
    assert [line[:2] for line in few if line.startswith("w")] == ["w0", "w1", "w2", "w3"]
    latest = [AgentRow(f"a{n}", "t", "running", 1, "ls") for n in range(10)]
    many = Picture(("run",), "working", 1.0, agents=1, workers=workers(100), latest=latest)
    text = "\n".join(line.plain for line in draw(many, 80, 24))
    assert "w99 " in text and "w0 " not in text and "more, " in text
    assert sum(line.startswith("a") for line in text.splitlines()) >= 6


def test_a_bar_never_says_more_than_there_is() -> None:
    over = Picture(("run",), "working", 1.0, agents=1, workers=[WorkerRow("w0", "up", 900, 900, 1000)])
    bar = next(line.plain for line in draw(over, 80, 24) if line.plain.startswith("w0"))
    assert "180.0%" in bar and bar.count("█") + bar.count("▒") <= 60 and "1,800 of 1,000" in bar


def test_durations_are_whole() -> None:
    assert [duration(s) for s in (0.4, 59.9, 61, 3600, 90_061)] == [
        "0 s",
        "59 s",
        "1 min 01 s",
        "1 h 00 min",
        "25 h 01 min",
    ]
