"""The coding agent's contract, where it is text."""

from __future__ import annotations

from thunderctl.agents.client import ToolResult
from thunderctl.agents.coding import FINISH_MARKER, commands_of, submission_of
from thunderctl.agents.loop import clip, fill


def result(output: str, returncode: int = 0) -> ToolResult:
    return ToolResult(output, returncode, 0.1, False, 0)


def test_an_answer_is_searched_for_fenced_bash_commands() -> None:
    assert commands_of("THOUGHT: look\n\n```bash\nls -la\n```") == ["ls -la"]
    assert commands_of("```mswea_bash_command\ncat <<'E'\nx\nE\n```\nand\n```bash\nls\n```") == [
        "cat <<'E'\nx\nE",
        "ls",
    ]
    assert commands_of("```python\nprint()\n```") == []


def test_a_submission_is_what_follows_the_marker_of_a_command_that_succeeded() -> None:
    assert submission_of(result(f"{FINISH_MARKER}\ndiff --git a b\n")) == "diff --git a b\n"
    assert submission_of(result(f"{FINISH_MARKER}\n")) == ""
    assert submission_of(result(f"{FINISH_MARKER}\n", 1)) is None
    assert submission_of(result(f"before\n{FINISH_MARKER}\n")) is None


def test_templates_fill_only_names_they_are_given() -> None:
    assert fill("{{a}} {{b}} ${c} {d}", a="{{b}}") == "{{b}} {{b}} ${c} {d}"


def test_long_output_keeps_head_and_tail_and_says_what_is_missing() -> None:
    text = "a" * 600 + "b" * 600
    clipped = clip(text, 1000)
    assert clipped.startswith("a" * 500) and clipped.endswith("b" * 500) and "200 characters left out" in clipped
    assert clip("short", 1000) == "short"
