"""A trace's figures, on one that can be counted by hand."""

from __future__ import annotations

from thunderctl.traces.load import make_trace
from thunderctl.traces.stats import resident_tokens, trace_stats
from thunderctl.traces.trace import TraceProgram, TraceStep

LONG = TraceProgram("long", 100, (TraceStep(10, 5, 50, 2.0), TraceStep(20, 0, 30, 4.0), TraceStep(1, 0, 0, 0.0)))
CUT = TraceProgram("cut", 100, (TraceStep(10, 0, 90, 8.0), TraceStep(10, 0, 0, 0.0)), context_limit=120)


def test_an_agent_holds_its_prompt_and_what_the_call_generated() -> None:
    assert resident_tokens(LONG) == [115, 180, 211]
    assert resident_tokens(CUT) == [110, 130]


def test_the_figures_count_every_call_but_no_tool_after_the_last_one() -> None:
    said = trace_stats(make_trace("two", [LONG, CUT]))
    figures = said["figures"]
    assert (said["programs"], said["steps"], said["groups"]) == (2, 5, 0)
    assert figures["steps_per_program"]["mean"] == 2.5
    assert figures["final_context"]["max"] == 211
    assert figures["output"]["mean"] == (10 + 20 + 1 + 10 + 10) / 5
    assert figures["observation"]["mean"] == (50 + 30 + 90) / 3
    assert figures["tool_s"]["max"] == 8 and figures["tool_s"]["p50"] == 4
    assert figures["resident_tokens"]["mean"] == (115 + 180 + 211 + 110 + 130) / 5
