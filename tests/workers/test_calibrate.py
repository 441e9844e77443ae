"""The time model that is fitted is the one that the observations follow."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderctl.errors import EngineError
from thunderctl.workers.calibrate import BATCHES, CONTEXTS, PROMPTS, Observation, fit
from thunderctl.workers.inside.thunderctl_timing import (
    Measured,
    Roofline,
    cold_prefill_rate,
    from_json,
    pairs_of,
    to_json,
)


def observations(overhead: float, text: float, cost: Measured, noise: float = 0.0) -> list[Observation]:
    """What a worker with exactly these costs would be seen to do."""
    rng = random.Random(1)
    found = []

    def add(what: str, calls: int, steps: int, tokens: int, pairs: int, context: int, sampled: int, chat: int) -> None:
        seconds = calls * overhead + steps * cost.fixed_s + tokens * cost.token_s + chat * text
        seconds += pairs * cost.pair_s + context * cost.context_s + sampled * cost.sample_s
        seconds *= rng.uniform(1 - noise, 1 + noise)
        found.append(Observation(what, calls, steps, tokens, pairs, context, sampled, seconds, chat))

    for size in PROMPTS:
        ends = [*range(2048, size, 2048), size]
        add(f"prefill {size}", 1, len(ends), size, pairs_of(0, size), sum(ends), 1, 0)
    for context in CONTEXTS:
        for batch in BATCHES:
            read = 32 * batch * context
            add(f"decode {batch} at {context}", 0, 32, 32 * batch, read, read, 32 * batch, 0)
    for size in (250, 2500, 10000):
        add(f"chat of {size}", 1, 1, 20, pairs_of(size - 20, 20), size, 1, size)
    return found


@given(
    overhead=st.floats(1e-4, 2e-2),
    fixed=st.floats(1e-4, 2e-2),
    token=st.floats(1e-6, 1e-3),
    pair=st.floats(1e-10, 1e-7),
    context=st.floats(1e-9, 1e-6),
    sample=st.floats(1e-5, 1e-3),
    text=st.floats(1e-7, 1e-5),
)
def test_costs_are_recovered_from_what_they_cause(
    overhead: float, fixed: float, token: float, pair: float, context: float, sample: float, text: float
) -> None:
    seen = observations(overhead, text, Measured(fixed, token, pair, context, sample))
    fitted = fit(seen)
    assert fitted.error < 1e-6
    again = observations(fitted.call_overhead_s, fitted.text_token_s, fitted.cost)
    assert all(abs(a.seconds / b.seconds - 1) < 1e-4 for a, b in zip(seen, again, strict=True))


def test_noise_never_makes_a_cost_negative_and_the_error_says_how_large_it_was() -> None:
    fitted = fit(observations(0.004, 1e-6, Measured(0.003, 1e-4, 0.0, 1e-8), noise=0.1))
    cost = fitted.cost
    assert min(cost.fixed_s, cost.token_s, cost.pair_s, cost.context_s, fitted.call_overhead_s) >= 0
    assert 0.01 < fitted.error < 0.1


def test_too_few_measurements_are_refused() -> None:
    with pytest.raises(EngineError, match="too few or too noisy"):
        fit(observations(0.004, 1e-6, Measured(0.003, 1e-4, 0.0, 1e-8))[:3])


@given(computed=st.integers(0, 300), first=st.integers(0, 300), second=st.integers(0, 300))
def test_attention_pairs_do_not_depend_on_how_a_prefill_is_cut(computed: int, first: int, second: int) -> None:
    whole = pairs_of(computed, first + second)
    assert whole == pairs_of(computed, first) + pairs_of(computed + first, second)
    assert whole == sum(computed + n for n in range(1, first + second + 1))


ROOFLINE = Roofline(
    dense_bytes=1e10,
    expert_bytes=3e11,
    experts=160,
    experts_per_token=8,
    flops_per_token=6e10,
    flops_per_pair=4.5e6,
    kv_bytes_per_token=376832,
    memory_bytes_per_s=2e13,
    flops_per_s=7e15,
    allreduces=184,
    allreduce_latency_s=1e-5,
    link_bytes_per_token=3e6,
    link_bytes_per_s=3e11,
    fixed_s=0.004,
)


@given(tokens=st.integers(1, 16384), context=st.integers(1, 10**6), pairs=st.integers(1, 10**9))
def test_no_step_is_faster_for_having_more_to_do(tokens: int, context: int, pairs: int) -> None:
    now = ROOFLINE.step_s(tokens=tokens, context=context, pairs=pairs)
    assert now >= ROOFLINE.fixed_s
    assert ROOFLINE.step_s(tokens=tokens + 1, context=context, pairs=pairs) >= now
    assert ROOFLINE.step_s(tokens=tokens, context=context + 1, pairs=pairs) >= now
    assert ROOFLINE.step_s(tokens=tokens, context=context, pairs=pairs + 1) >= now


def test_a_single_token_touches_its_own_experts_and_a_large_batch_touches_all() -> None:
    dense = ROOFLINE.fixed_s + 184e-5 + 1e10 / 2e13
    sent = 3e6 / 3e11
    alone = ROOFLINE.step_s(tokens=1, context=0, pairs=0)
    assert alone - dense - sent == pytest.approx(3e11 * 8 / 160 / 2e13, rel=0.01)
    slow_memory = Roofline(**{**{f: getattr(ROOFLINE, f) for f in ROOFLINE.__dataclass_fields__}, "flops_per_s": 1e30})
    full = slow_memory.step_s(tokens=2000, context=0, pairs=0)
    assert full - dense - 2000 * sent == pytest.approx(3e11 / 2e13, rel=0.001)


@pytest.mark.parametrize("cost", [ROOFLINE, Measured(0.003, 1e-4, 1e-9, 1e-8)])
def test_a_cost_travels_as_json(cost: Roofline | Measured) -> None:
    assert from_json(to_json(cost)) == cost
    assert cold_prefill_rate(cost, 2000) == 2000 / cost.step_s(tokens=2000, context=2000, pairs=2001000)


@pytest.mark.parametrize("text", ["{}", '{"kind": "guess"}', '{"kind": "measured", "fixed_s": 1}'])
def test_what_is_no_cost_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        from_json(text)
