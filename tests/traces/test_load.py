"""Trace files are read whole or not at all, and what was written reads as the same trace."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thunderctl.errors import WorkloadError
from thunderctl.traces.load import find_trace, list_traces, load_trace, make_trace, read_trace, write_trace
from thunderctl.traces.trace import TraceProgram, TraceStep

GOOD = {"id": "a", "first_prompt": 10, "gap": "tool", "steps": [[5, 2, 3, 1.5], [4, 0, 0, 0]]}


def file_of(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "some.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def refused(path: Path) -> WorkloadError:
    with pytest.raises(WorkloadError) as caught:
        load_trace(path)
    assert str(path) in caught.value.message
    return caught.value


tokens = st.integers(0, 10**6)
steps = st.builds(TraceStep, st.integers(1, 10**5), tokens, tokens, st.floats(0, 10**5))
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
programs = st.builds(
    TraceProgram,
    id=names,
    first_prompt=st.integers(1000, 10**5),
    steps=st.lists(steps, min_size=1, max_size=5).map(tuple),
    label=st.just("") | names,
    group=st.none() | names,
    shared_prefix=st.integers(0, 1000),
    context_limit=st.none() | st.integers(1, 10**5),
    branches=st.integers(1, 9),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(programs, min_size=1, max_size=5, unique_by=lambda p: p.id), st.sampled_from([".jsonl", ".jsonl.gz"]))
def test_what_is_written_reads_as_the_same_trace(tmp_path: Path, made: list[TraceProgram], suffix: str) -> None:
    trace = make_trace("mine", made)
    path = tmp_path / f"mine{suffix}"
    write_trace(path, trace)
    assert load_trace(path) == trace
    before = path.read_bytes()
    write_trace(path, load_trace(path))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@given(programs, programs)
def test_the_digest_tells_programs_and_their_order_apart(a: TraceProgram, b: TraceProgram) -> None:
    ab, ba = make_trace("x", [a, b]), make_trace("y", [b, a])
    assert (ab.digest == ba.digest) == (ab.programs == ba.programs)
    assert make_trace("z", [a]).digest != ab.digest


def test_lists_and_objects_say_the_same(tmp_path: Path) -> None:
    listed = load_trace(file_of(tmp_path, GOOD))
    objects = [{"output": 5, "reasoning": 2, "observation": 3, "tool_s": 1.5}, {"output": 4, "tool_s": 0}]
    assert load_trace(file_of(tmp_path, {"id": "a", "first_prompt": 10, "steps": objects})) == listed
    assert listed.programs[0].steps == (TraceStep(5, 2, 3, 1.5), TraceStep(4, 0, 0, 0.0))


def test_a_step_has_samples_or_branches_of_an_uncut_context(tmp_path: Path) -> None:
    found = load_trace(file_of(tmp_path, {**GOOD, "samples": 4})).programs[0]
    assert (found.samples, found.branches) == (4, 1)
    for also, reason in (
        ("branches", "several samples or several branches"),
        ("context_limit", "cannot have a context"),
    ):
        assert reason in refused(file_of(tmp_path, {**GOOD, "samples": 2, also: 9})).message


def test_repo_is_another_name_of_the_label(tmp_path: Path) -> None:
    assert load_trace(file_of(tmp_path, {**GOOD, "repo": "flask"})).programs[0].label == "flask"


def test_empty_lines_are_left_out_and_the_name_is_that_of_the_file(tmp_path: Path) -> None:
    trace = load_trace(file_of(tmp_path, "", GOOD, "   "))
    assert (trace.name, len(trace.programs)) == ("some", 1)


def test_the_models_share_is_taken_out_of_seconds_that_include_it(tmp_path: Path) -> None:
    # 2 s and 10 ms a token; every fifth tool takes 7 s, the others nothing.
    walk = [[n, 0, 1, 2 + 0.01 * n + (7 if n % 5 == 0 else 0)] for n in range(1, 201)] + [[50, 0, 0, 0]]
    trace, speed = read_trace(file_of(tmp_path, {"id": "a", "first_prompt": 9, "steps": walk}))
    assert speed is not None
    assert (speed.latency_s, speed.token_s) == (pytest.approx(2, abs=1e-3), pytest.approx(0.01, abs=1e-5))
    for step in trace.programs[0].steps[:-1]:
        assert step.tool_s == pytest.approx(7 if step.output % 5 == 0 else 0, abs=0.01)
    assert trace.programs[0].steps[-1].tool_s == 0


def test_reasoning_counts_as_the_models_time_too(tmp_path: Path) -> None:
    walk = [[1, n, 1, 2 + 0.01 * (n + 1)] for n in range(200)] + [[1, 0, 0, 0]]
    trace = load_trace(file_of(tmp_path, {"id": "a", "first_prompt": 9, "steps": walk}))
    assert max(step.tool_s for step in trace.programs[0].steps) < 0.01


def test_too_few_steps_to_take_the_model_out_are_refused_with_a_way_out(tmp_path: Path) -> None:
    error = refused(file_of(tmp_path, {**GOOD, "gap": "step"}))
    assert "too few" in error.message and '"gap": "tool"' in (error.hint or "")


@pytest.mark.parametrize(
    ("line", "reasons"),
    [
        ('{"id": ', ["line 2: not valid JSON: Expecting value at column 8"]),
        ("[1]", ["line 2: a program is an object"]),
        ("\udcff", ["line 2: 'utf-8' codec can't decode"]),
        ('{"id":"b","id":"c","first_prompt":1,"steps":[[1,0,0,0]]}', ["line 2: id: is said twice"]),
        ({**GOOD, "id": "b", "frist_prompt": 1}, ["frist_prompt: unknown key (did you mean 'first_prompt'?)"]),
        ({"id": "b", "steps": [[1, 0, 0, 0]]}, ["first_prompt: is missing"]),
        ({**GOOD, "id": "b", "first_prompt": 0}, ["first_prompt: input should be greater than 0, not 0"]),
        ({**GOOD, "id": "b", "first_prompt": 2.5}, ["first_prompt: input should be a valid integer, not 2.5"]),
        ({**GOOD, "id": "b", "first_prompt": True}, ["first_prompt: input should be a valid integer, not True"]),
        ({**GOOD, "id": "b", "gap": "tools"}, ["gap: input should be 'step' or 'tool', not 'tools'"]),
        ({**GOOD, "id": "b", "steps": []}, ["steps: list should have at least 1 item"]),
        ({**GOOD, "id": "b", "steps": [[1, 2, 3]]}, ["steps[0]: a list has 4 numbers"]),
        ({**GOOD, "id": "b", "steps": [[1, -2, 3, 4]]}, ["steps[0].reasoning: input should be greater than or equal"]),
        ({**GOOD, "id": "b", "steps": [[1, 0, 0, False]]}, ["steps[0].tool_s: input should be a valid number, not F"]),
        ({**GOOD, "id": "b", "steps": [[1, 0, 0, float("nan")]]}, ["steps[0].tool_s: input should be a finite number"]),
        ({**GOOD, "id": "b", "steps": [[0, 0, 9, 1]]}, ["steps[0]: a call generates at least one token"]),
        ({**GOOD, "id": "b", "steps": [{"output": 1}]}, ["steps[0]: wants either tool_s"]),
        (
            {**GOOD, "id": "b", "steps": [{"output": 1, "tool_s": 1, "obsrvation": 2}]},
            ["steps[0].obsrvation: unknown key (did you mean 'observation'?)"],
        ),
        ({**GOOD, "id": "b", "label": "x", "repo": "y"}, ["label and repo"]),
        ({**GOOD, "id": "b", "shared_prefix": 11}, ["shared_prefix: 11 tokens of a first_prompt of 10"]),
        (GOOD, ["id: 'a' is the program of line 1 already"]),
    ],
)
def test_every_mistake_is_named_with_line_key_and_reason(tmp_path: Path, line: object, reasons: list[str]) -> None:
    path = tmp_path / "some.jsonl"
    second = line if isinstance(line, str) else json.dumps(line)
    path.write_bytes(f"{json.dumps(GOOD)}\n{second}\n".encode(errors="surrogateescape"))
    error = refused(path)
    said = [error.message, *error.details]
    assert "line 2" in " ".join(said)
    for reason in reasons:
        assert any(reason in each for each in said), said


def test_many_mistakes_are_five_and_a_count(tmp_path: Path) -> None:
    error = refused(file_of(tmp_path, *(["{"] * 9)))
    assert "9 things are wrong, nothing was read" in error.message
    assert len(error.details) == 6 and error.details[-1] == "… and 4 more"


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_file_without_programs_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.jsonl"
    path.write_bytes(content)
    assert "has no programs" in refused(path).message


def test_a_file_that_is_not_there_or_not_compressed_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "nowhere.jsonl").message
    path = tmp_path / "some.jsonl.gz"
    path.write_text("plain text")
    assert "cannot be read" in refused(path).message
    path.write_bytes(gzip.compress(json.dumps(GOOD).encode())[:-6])
    assert "cannot be read" in refused(path).message


def test_a_trace_is_not_written_where_its_name_would_not_be_read(tmp_path: Path) -> None:
    trace = load_trace(file_of(tmp_path, GOOD))
    with pytest.raises(WorkloadError, match="ends in"):
        write_trace(tmp_path / "mine.json", trace)
    with pytest.raises(WorkloadError, match="cannot be written"):
        write_trace(tmp_path / "no" / "folder.jsonl", trace)
    with pytest.raises(WorkloadError, match="cannot be written"):
        write_trace(tmp_path / "some.jsonl" / "folder.jsonl", trace)


def test_traces_are_found_by_name_or_path(tmp_path: Path) -> None:
    assert [path.stem for path in list_traces()] == ["coding", "routing", "science"]
    assert find_trace("coding") == list_traces()[0]
    mine = file_of(tmp_path, GOOD)
    assert find_trace(str(mine)) == mine
    with pytest.raises(WorkloadError, match="no trace 'codng'") as caught:
        find_trace("codng")
    assert "did you mean 'coding'" in (caught.value.hint or "")
