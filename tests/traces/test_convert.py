"""Recordings become traces: what they state is kept, what they leave open is estimated by a stated rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderctl.errors import WorkloadError
from thunderctl.runs.store import RunFolder
from thunderctl.traces.convert import COLUMNS, import_sources, trace_of_run
from thunderctl.traces.trace import TraceProgram, TraceStep


def one(source: Path, form: str = "auto") -> TraceProgram:
    (program,) = import_sources([str(source)], form).trace("t").programs
    return program


# ------------------------------------------------------------------ mini-SWE-agent


def answer(prompt: int, completion: int, at: float | None, *, created: int = 0, reasoning: int = 0) -> dict[str, Any]:
    details = {"reasoning_tokens": reasoning} if reasoning else None
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "completion_tokens_details": details}
    extra: dict[str, Any] = {"response": {"created": created, "usage": usage}}
    if at is not None:
        extra["timestamp"] = at
    return {"role": "assistant", "content": "THOUGHT", "extra": extra}


def observation(at: float | None) -> dict[str, Any]:
    return {"role": "user", "content": "<output>", "extra": {} if at is None else {"timestamp": at}}


def trajectory(folder: Path, name: str, messages: list[dict[str, Any]], **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.traj.json"
    path.write_text(json.dumps({"info": {}, "messages": messages, **more}))
    return path


START = [{"role": "system", "content": "s" * 40}, {"role": "user", "content": "u" * 60}]


def test_a_trajectorys_usage_and_timestamps_become_steps(tmp_path: Path) -> None:
    messages = [
        *START,
        answer(1000, 80, 100.0),
        observation(102.5),
        answer(1200, 300, 110.0, reasoning=250),
        observation(110.25),
        answer(1290, 20, 120.0),
        observation(121.0),
        {"role": "exit", "content": "diff"},
    ]
    program = one(trajectory(tmp_path, "astropy__astropy-12907", messages))
    assert (program.id, program.label, program.first_prompt) == ("astropy__astropy-12907", "astropy", 1000)
    assert program.steps == (
        TraceStep(80, 0, 120, 2.5),
        TraceStep(50, 250, 40, 0.25),
        TraceStep(20, 0, 0, 1.0),
    )


def test_an_answer_that_did_not_stay_whole_was_reasoning_for_the_rest(tmp_path: Path) -> None:
    program = one(trajectory(tmp_path, "a", [*START, answer(100, 80, 1.0), observation(2.0), answer(130, 9, 3.0)]))
    assert program.steps[0] == TraceStep(30, 50, 0, 1.0)


def test_the_responses_interface_is_read_too(tmp_path: Path) -> None:
    def response(prompt: int, output: int, at: float) -> dict[str, Any]:
        usage = {"input_tokens": prompt, "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 5}}
        return {"object": "response", "output": [], "usage": usage, "extra": {"timestamp": at}}

    program = one(trajectory(tmp_path, "a", [*START, response(100, 25, 1.0), observation(4.0), response(150, 25, 9.0)]))
    assert program.steps == (TraceStep(20, 5, 30, 3.0), TraceStep(20, 5, 0, 0.0))


def test_without_usage_four_characters_are_a_token_and_a_note_says_so(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "x" * 41}
    path = trajectory(tmp_path, "a", [*START, said, {"role": "user", "content": "y" * 80}, said])
    imported = import_sources([str(path)])
    (program,) = imported.trace("t").programs
    # 100 characters before the first answer, 141 with it, 221 before the second.
    assert (program.first_prompt, program.steps[0]) == (25, TraceStep(11, 0, 20, 0.0))
    assert any("characters ÷ 4" in note for note in imported.notes)
    assert any("does not" in note or "do not say when their tool ended" in note for note in imported.notes)


def test_times_from_call_to_call_have_the_models_share_taken_out(tmp_path: Path) -> None:
    # 2 s a call and 10 ms a token; every fourth tool takes 30 s.
    messages, prompt, now = list(START), 1000, 0
    for n in range(120):
        tokens = 100 * (n % 7 + 1)
        messages += [answer(prompt, tokens, None, created=1_700_000_000 + now), observation(None)]
        prompt += tokens + 10
        now += 2 + tokens // 100 + (30 if n % 4 == 0 else 0)
    messages.append(answer(prompt, 9, None, created=1_700_000_000 + now))
    imported = import_sources([str(trajectory(tmp_path, "a", messages))])
    (program,) = imported.trace("t").programs
    assert [round(step.tool_s) for step in program.steps[:-1]] == [30 if n % 4 == 0 else 0 for n in range(120)]
    assert any("2.00 s a call and 10.00 ms a token" in note for note in imported.notes)


def test_folders_are_searched_and_runs_of_the_same_task_get_numbers(tmp_path: Path) -> None:
    calls = [*START, answer(10, 5, 1.0), observation(2.0)]
    for folder in ("one", "two"):
        trajectory(tmp_path / folder, "x", calls, instance_id="task-1")
    trajectory(tmp_path / "three", "y", START)
    imported = import_sources([str(tmp_path)])
    assert [p.id for p in imported.trace("t").programs] == ["task-1", "task-1#2"]
    assert any("1 trajectories without a model call" in note for note in imported.notes)


@pytest.mark.parametrize("content", ["{", "[]", '{"messages": 3}', '{"messages": ["x"]}'])
def test_a_broken_trajectory_is_named_and_nothing_is_imported(tmp_path: Path, content: str) -> None:
    trajectory(tmp_path, "good", [*START, answer(10, 5, 1.0)])
    (tmp_path / "bad.traj.json").write_text(content)
    with pytest.raises(WorkloadError, match=r"bad\.traj\.json"):
        import_sources([str(tmp_path)])


def test_a_folder_without_trajectories_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="no trajectories"):
        import_sources([str(tmp_path)])


# ------------------------------------------------------------------ our own runs


def a_run(folder: Path) -> RunFolder:
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    run.write("manifest.json", {"schema": 1, "kind": "replay"})
    for agent, calls in {"agent-001": [(900, 50), (1000, 60)], "agent-000": [(800, 40), (870, 30), (1200, 9)]}.items():
        for number, (prompt, output) in enumerate(calls, 1):
            run.append(
                "steps",
                {
                    "agent": agent, "step": number, "prompt_tokens": prompt, "output_tokens": output,
                    "cached_tokens": 320 if number == 1 else prompt - 10, "tool_s": 0.1234567 * number,
                },
            )  # fmt: skip
        run.append("rollouts", {"agent": agent, "program": f"r/{agent}", "instance_id": f"task of {agent}"})
    run.close()
    return run


def test_a_run_becomes_a_trace_in_the_order_of_its_agents(tmp_path: Path) -> None:
    trace = trace_of_run(a_run(tmp_path / "r"))
    assert [p.id for p in trace.programs] == ["agent-000", "agent-001"]
    first = trace.programs[0]
    assert (first.first_prompt, first.shared_prefix, first.label) == (800, 320, "task of agent-000")
    assert first.steps == (TraceStep(40, 0, 30, 0.123), TraceStep(30, 0, 300, 0.247), TraceStep(9, 0, 0, 0.37))


def test_a_run_of_a_trace_has_its_programs_not_its_agents(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    run = RunFolder(tmp_path / "r")
    for program in ("r/p1", "r/p0"):
        step = {"agent": "agent-000", "program": program, "step": 1, "prompt_tokens": 5, "output_tokens": 2}
        run.append("steps", {**step, "cached_tokens": 0, "tool_s": 0.0})
    assert [p.id for p in trace_of_run(run).programs] == ["r/p0", "r/p1"]


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 99)), min_size=1, max_size=8))
def test_the_traces_prompts_are_the_runs_prompts_as_far_as_they_grew(calls: list[tuple[int, int]]) -> None:
    class Run:
        id = "r"

        def lines(self, name: str) -> list[dict[str, Any]]:
            return [
                {"agent": "a", "step": n, "prompt_tokens": p, "output_tokens": o, "cached_tokens": 0, "tool_s": 0.0}
                for n, (p, o) in enumerate(calls)
                if name == "steps"
            ]

    (program,) = trace_of_run(Run()).programs
    for (prompt, output), after, step in zip(calls, calls[1:], program.steps, strict=False):
        assert step.output + step.reasoning == output
        assert step.output + step.observation == max(0, after[0] - prompt)


def test_runs_are_found_by_folder_or_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path))
    run = a_run(tmp_path / "runs" / "20260101-000000-swebench-abcd")
    by_id = import_sources([run.id]).trace("t")
    assert import_sources([str(run.folder)]).trace("t") == by_id
    with pytest.raises(WorkloadError, match="no run"):
        import_sources(["20260101-000000-other-abcd"])


def test_a_run_without_steps_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    with pytest.raises(WorkloadError, match="no steps"):
        trace_of_run(RunFolder(tmp_path / "r"))


# ------------------------------------------------------------------ CSV

HEADER = ",".join(COLUMNS)


def table(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    path = tmp_path / "t.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_table_becomes_programs_whatever_the_order_of_its_columns(tmp_path: Path) -> None:
    program = one(table(tmp_path, "a,1,100,5,0,7,1.5", "a,2,,6,1,0,"))
    assert program == TraceProgram("a", 100, (TraceStep(5, 0, 7, 1.5), TraceStep(6, 1, 0, 0.0)))
    turned = table(tmp_path, "1.5,7,0,5,100,1,a", ",0,1,6,,2,a", header=",".join(reversed(COLUMNS)))
    assert one(turned) == program


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (["a,1,100,five,0,7,1"], "line 2: output: input should be a valid integer, not 'five'"),
        (["a,1,100,5,0,-7,1"], "line 2: observation: input should be greater than or equal to 0, not -7"),
        (["a,1,100,5,0,7,nan"], "line 2: tool_s: input should be a finite number"),
        (["a,1,100,0,0,7,1"], "line 2: a call generates at least one token"),
        (["a,1,100,5,0,7,1", "a,3,,5,0,7,1"], "line 3: step: 3 follows 1 of program 'a'"),
        (["a,1,100,5,0,7,1", "a,2,200,5,0,7,1"], "line 3: first_prompt: program 'a' said 100 before"),
        (["a,one,100,5,0,7,1"], "line 2: step: wanted a whole number, not 'one'"),
        (["a,1,,5,0,7,1"], "line 2: first_prompt: input should be a valid integer"),
        (["a,1,100,5"], "line 2: wanted 7 fields"),
        (["a,1,100,5,0,7,1,9"], "line 2: wanted 7 fields"),
        ([], "has no rows"),
    ],
)
def test_a_tables_mistakes_are_named_with_their_line(tmp_path: Path, rows: list[str], reason: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        import_sources([str(table(tmp_path, *rows))])
    assert reason in caught.value.message or any(reason in detail for detail in caught.value.details)


def test_a_header_that_is_not_the_documented_one_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "a,1,100,5,0,7,1", header=HEADER.replace("observation", "obsrvation"))
    with pytest.raises(WorkloadError) as caught:
        import_sources([str(path)])
    assert "line 1: obsrvation: unknown column (did you mean 'observation'?)" in caught.value.details
    assert any("the header lacks observation" in detail for detail in caught.value.details)


def test_a_file_of_no_known_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_text("x")
    with pytest.raises(WorkloadError, match="recognised"):
        import_sources([str(path)])
