"""What a trace holds, in figures: the load that its programs put on a worker. Reads nothing but the trace."""

from __future__ import annotations

from typing import Any

from thunderctl.report.stats import spread
from thunderctl.traces.trace import Trace, TraceProgram


def trace_stats(trace: Trace) -> dict[str, Any]:
    """Counts, and mean, p50, p90, p99 and max of each figure. Tokens, except ``tool_s`` (seconds).

    ``resident_tokens``: what an agent in mid-life holds on its worker. Mid-life is a step drawn uniformly over all
    steps of the trace, as ``Work`` starts agents with ``steady``; held is the context at the end of that call,
    reasoning included. Agents × its mean is the working set; it fits if that stays below the KV capacity.
    Observations and tools of last steps are left out: nothing comes after them.
    """
    steps = [step for program in trace.programs for step in program.steps]
    followed = [step for program in trace.programs for step in program.steps[:-1]]
    return {
        "trace": trace.name,
        "digest": trace.digest,
        "programs": len(trace.programs),
        "steps": len(steps),
        "groups": len({program.group for program in trace.programs if program.group}),
        "figures": {
            "steps_per_program": spread(len(program.steps) for program in trace.programs),
            "first_prompt": spread(program.first_prompt for program in trace.programs),
            "final_context": spread(program.final_context for program in trace.programs),
            "output": spread(step.output for step in steps),
            "reasoning": spread(step.reasoning for step in steps),
            "observation": spread(step.observation for step in followed),
            "tool_s": spread(step.tool_s for step in followed),
            "resident_tokens": spread(held for program in trace.programs for held in resident_tokens(program)),
        },
    }


def resident_tokens(program: TraceProgram) -> list[int]:
    """KV tokens that each call of the program occupies when it ends, after cuts on the left."""
    held = []
    prompt = program.first_prompt
    for step in program.steps:
        cut = min(prompt, program.context_limit or prompt)
        held.append(cut + step.reasoning + step.output)
        prompt += step.output + step.observation
    return held
