"""The recorded model's speed is found again in recordings that were made with a known one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderctl.traces.recorded_speed import FEWEST, RecordedSpeed, fit_speed


def recording(
    latency_s: float, token_s: float, *, steps: int = 3000, seed: int = 0, rounded: bool = False, stray: float = 0.0
) -> list[tuple[int, float]]:
    """Steps of heavy-tailed lengths; a quarter of the tools end at once, others last up to minutes."""
    rng = random.Random(seed)
    found = []
    for _ in range(steps):
        tokens = max(1, round(rng.lognormvariate(4.6, 1.2)))
        tool = 0.0 if rng.random() < 0.25 else rng.lognormvariate(0.3, 1.3)
        seconds = latency_s + tokens * token_s + tool
        if rng.random() < stray:
            seconds = 1.0
        found.append((tokens, float(max(1, round(seconds))) if rounded else seconds))
    return found


@settings(max_examples=15, deadline=None)
@given(st.floats(0.2, 5), st.floats(0.002, 0.05), st.integers(0, 1000))
def test_a_known_speed_is_recovered(latency_s: float, token_s: float, seed: int) -> None:
    found = fit_speed(recording(latency_s, token_s, steps=1500, seed=seed))
    assert found is not None
    assert found.token_s == pytest.approx(token_s, rel=0.03)
    assert found.latency_s == pytest.approx(latency_s, abs=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_clocks_of_whole_seconds_and_stray_records_move_it_little(seed: int) -> None:
    found = fit_speed(recording(1.6, 0.009, seed=seed, rounded=True, stray=0.02))
    assert found is not None
    assert found.token_s == pytest.approx(0.009, rel=0.1)
    assert found.latency_s == pytest.approx(1.6, abs=0.5)


def test_slow_tools_do_not_count_as_the_models_time() -> None:
    quick = recording(1.0, 0.01)
    slow = [(tokens, seconds + (100 if seconds > 1.0 + 0.01 * tokens + 1e-9 else 0)) for tokens, seconds in quick]
    found = fit_speed(slow)
    assert found is not None
    assert found.token_s == pytest.approx(0.01, rel=0.03)


def test_the_order_of_the_steps_does_not_matter() -> None:
    steps = recording(1.0, 0.01, steps=200)
    assert fit_speed(steps) == fit_speed(steps[::-1])


def test_too_few_steps_tell_nothing() -> None:
    assert fit_speed(recording(1.0, 0.01, steps=FEWEST - 1)) is None
    assert fit_speed(recording(1.0, 0.01, steps=FEWEST)) is not None


def test_what_the_model_took_is_taken_out_and_never_more() -> None:
    speed = RecordedSpeed(latency_s=1.0, token_s=0.01)
    assert speed.tool_s(10.0, 100) == pytest.approx(8.0)
    assert speed.tool_s(1.5, 100) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_what_the_quickest_tenth_of_the_tools_takes_counts_as_latency(seed: int) -> None:
    rng = random.Random(seed)
    tools = [0.5 + rng.expovariate(1.0) for _ in range(4000)]
    lengths = [max(1, round(rng.lognormvariate(4.6, 1.2))) for _ in tools]
    found = fit_speed([(n, 1.0 + 0.01 * n + tool) for n, tool in zip(lengths, tools, strict=True)])
    assert found is not None
    assert found.token_s == pytest.approx(0.01, rel=0.05)
    assert found.latency_s == pytest.approx(1.0 + sorted(tools)[400], abs=0.1)
