"""Synthetic traces have the quantiles that they were fitted to, and the bundled ones are what their seed gives."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderctl.report.stats import percentile
from thunderctl.traces.load import load_trace, write_trace
from thunderctl.traces.stats import trace_stats
from thunderctl.traces.synth import KINDS, Quantiles, synthesise

BUNDLED = Path(__file__).parents[2] / "workloads" / "traces"
CODING = trace_stats(synthesise("coding", 2000, seed=1))["figures"]
MODEL_S = (1.65, 0.00848)
"""Latency and seconds a token of the recorded model, which the recorded gaps include."""


@pytest.mark.parametrize(
    ("figure", "of", "recorded", "tolerance"),
    [
        # Recorded: 500 runs of mini-swe-agent on SWE-bench Verified with one frontier model.
        ("steps_per_program", "mean", 40, 0.05),
        ("steps_per_program", "p50", 36, 0.05),
        ("steps_per_program", "p90", 66, 0.05),
        ("steps_per_program", "max", 145, 0.05),
        ("first_prompt", "mean", 1840, 0.05),
        ("final_context", "mean", 25_000, 0.05),
        # Contexts are sums of independent steps: their tail comes out a little differently than that of recorded ones.
        ("final_context", "p90", 38_000, 0.16),
        ("final_context", "p99", 87_000, 0.16),
        ("output", "p50", 81, 0.05),
        ("output", "mean", 271, 0.05),
        ("observation", "p50", 87, 0.05),
        ("observation", "mean", 304, 0.05),
        ("observation", "p99", 3400, 0.05),
    ],
)
def test_the_coding_trace_has_the_recorded_quantiles(figure: str, of: str, recorded: float, tolerance: float) -> None:
    assert CODING[figure][of] == pytest.approx(recorded, rel=tolerance)


def test_with_the_recorded_model_its_gaps_are_the_recorded_ones() -> None:
    latency_s, token_s = MODEL_S
    gaps = [
        # The recording counts whole seconds.
        math.floor(step.tool_s + latency_s + token_s * (step.output + step.reasoning))
        for program in synthesise("coding", 2000, seed=1).programs
        for step in program.steps[:-1]
    ]
    assert [percentile(gaps, share) for share in (0.5, 0.9, 0.99)] == [4, 13, pytest.approx(43, abs=2)]


def test_routing_programs_are_cut_and_wait_long() -> None:
    trace = synthesise("routing", 1000, seed=1)
    figures = trace_stats(trace)["figures"]
    assert figures["steps_per_program"]["max"] == 50
    assert {p.context_limit for p in trace.programs} == {27_000}
    assert any(p.final_context > 27_000 for p in trace.programs)
    assert figures["tool_s"]["p50"] < 5 and figures["tool_s"]["p99"] > 100 and figures["tool_s"]["max"] <= 600


def test_science_programs_are_few_long_steps_with_tools_that_run() -> None:
    science = trace_stats(synthesise("science", 1000, seed=1))["figures"]
    assert science["steps_per_program"]["p50"] < CODING["steps_per_program"]["p50"] / 3
    assert science["output"]["p50"] > 10 * CODING["output"]["p50"]
    assert 10 < science["tool_s"]["p50"] < 60


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_trace_and_another_seed_another(kind: str) -> None:
    assert synthesise(kind, 20, 3) == synthesise(kind, 20, 3)
    assert synthesise(kind, 20, 3).digest != synthesise(kind, 20, 4).digest


@pytest.mark.parametrize("kind", KINDS)
def test_the_bundled_trace_is_what_its_seed_gives(kind: str, tmp_path: Path) -> None:
    trace = synthesise(kind, 200, 0)
    assert load_trace(BUNDLED / f"{kind}.jsonl") == trace
    write_trace(tmp_path / "again.jsonl", trace)
    assert (tmp_path / "again.jsonl").read_bytes() == (BUNDLED / f"{kind}.jsonl").read_bytes()
    assert (BUNDLED / f"{kind}.jsonl").stat().st_size < 400_000


@given(st.integers(0, 2**32))
def test_a_distribution_stays_between_its_ends(seed: int) -> None:
    table = Quantiles(((0, 0), (0.2, 0), (0.5, 10), (1, 1000)))
    assert 0 <= table.draw(random.Random(seed)) <= 1000


def test_a_distribution_has_the_quantiles_of_its_table() -> None:
    table = Quantiles(((0, 0), (0.2, 0), (0.5, 10), (0.9, 100), (1, 1000)))
    rng = random.Random(1)
    drawn = [table.draw(rng) for _ in range(20_000)]
    assert percentile(drawn, 0.19) == 0
    assert percentile(drawn, 0.5) == pytest.approx(10, rel=0.05)
    assert percentile(drawn, 0.9) == pytest.approx(100, rel=0.05)
