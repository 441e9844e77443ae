"""The line that matters is found in logs as vLLM writes them (shortened)."""

from __future__ import annotations

from pathlib import Path

from thunderctl.workers.log import last_error_lines

STACK = """\
\x1b[0;36m(APIServer pid=10)\x1b[0;0m INFO 11-20 23:09:22 [api_utils.py:286] non-default args: {'port': 18100}
(EngineCore pid=11) ERROR 11-20 23:43:12 [core.py:1309] EngineCore failed to start.
(EngineCore pid=11) ERROR 11-20 23:43:12 [core.py:1309] Traceback (most recent call last):
(EngineCore pid=11) ERROR 11-20 23:43:12 [core.py:1309]   File "core.py", line 1300, in run_engine_core
(EngineCore pid=11) ERROR 11-20 23:43:12 [core.py:1309]     engine_core = EngineCoreProc(*args)
(EngineCore pid=11) ERROR 11-20 23:43:12 [core.py:1309] ValueError: To serve one request, 0.12 GiB KV cache is needed
(EngineCore pid=11) Process EngineCore:
(EngineCore pid=11) Traceback (most recent call last):
(EngineCore pid=11) ValueError: To serve one request, 0.12 GiB KV cache is needed
(APIServer pid=10) Traceback (most recent call last):
(APIServer pid=10)   File "entry.py", line 320, in main
(APIServer pid=10) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
x.py:61: UserWarning: There appear to be 5 leaked shared_memory objects
"""


def written(tmp_path: Path, text: str) -> Path:
    log = tmp_path / "worker.log"
    log.write_text(text)
    return log


def test_the_cause_comes_out_bare_and_its_consequences_do_not(tmp_path: Path) -> None:
    assert last_error_lines(written(tmp_path, STACK)) == [
        "ValueError: To serve one request, 0.12 GiB KV cache is needed"
    ]


def test_an_exceptions_further_lines_belong_to_it(tmp_path: Path) -> None:
    text = (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
        "  Value error, Invalid repository ID or local directory specified: '/no/model'.\n"
        "Please verify the following requirements\n"
    )
    assert last_error_lines(written(tmp_path, text)) == [
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig "
        "Value error, Invalid repository ID or local directory specified: '/no/model'."
    ]


def test_a_refused_field_is_named(tmp_path: Path) -> None:
    text = (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
        "max_model_len\n"
        "  Input should be greater than or equal to -1 [type=greater_than_equal, input_value=-5]\n"
    )
    (said,) = last_error_lines(written(tmp_path, text))
    assert "max_model_len Input should be greater" in said


def test_a_wrong_option_is_an_error_line(tmp_path: Path) -> None:
    text = "usage: entry.py [-h]\nentry.py: error: unrecognized arguments: --no-such\n"
    assert last_error_lines(written(tmp_path, text)) == ["entry.py: error: unrecognized arguments: --no-such"]


def test_without_an_exception_the_last_lines_are_shown(tmp_path: Path) -> None:
    text = "\n".join(f"(Worker pid=7) INFO 11-20 23:09:22 [x.py:1] line {n}" for n in range(9))
    assert last_error_lines(written(tmp_path, text)) == [f"line {n}" for n in range(4, 9)]


def test_an_earlier_start_in_the_same_log_is_left_out(tmp_path: Path) -> None:
    log = written(tmp_path, "ValueError: yesterday's\n")
    start = log.stat().st_size
    with log.open("a") as handle:
        handle.write("OSError: today's\n")
    assert last_error_lines(log, start) == ["OSError: today's"]
    assert last_error_lines(log, start + 1000) == []
    assert last_error_lines(tmp_path / "none.log") == []
