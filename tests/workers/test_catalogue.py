"""The catalogue's figures agree with what is published, and what is computed from them is what vLLM would find."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderctl.errors import UsageError
from thunderctl.profile_files import load_profile
from thunderctl.workers.catalogue import (
    GIB,
    GPUS,
    MODELS,
    kv_bytes_per_token,
    kv_capacity_tokens,
    step_cost,
    weight_bytes,
)
from thunderctl.workers.emulation import emulation_of
from thunderctl.workers.inside.thunderctl_timing import cold_prefill_rate

gpus, models, cards = st.sampled_from(sorted(GPUS)), st.sampled_from(sorted(MODELS)), st.sampled_from([1, 2, 4, 8])
shares, batches = st.floats(0.5, 0.95), st.integers(256, 32768)

PROFILES = (
    "emulated-h100x8-glm46",
    "emulated-2x8h100-glm46",
    "emulated-h100x8-qwen3-235b",
    "emulated-rtx5090-qwen3-8b",
    "emulated-h200-qwen3-coder",
)


@pytest.mark.parametrize("name", MODELS)
def test_the_shapes_of_a_model_add_up_to_its_published_parameters(name: str) -> None:
    model = MODELS[name]
    assert model.all_parameters == pytest.approx(model.parameters, rel=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_the_shapes_of_a_model_add_up_to_its_published_active_parameters(name: str) -> None:
    """Some makers count the embeddings among them, some do not."""
    model = MODELS[name]
    counts = (model.token_parameters, model.token_parameters + model.embedding_parameters)
    assert min(abs(count / model.active_parameters - 1) for count in counts) < 0.02


@pytest.mark.parametrize("name", MODELS)
def test_the_parts_of_a_model_are_the_whole(name: str) -> None:
    model = MODELS[name]
    assert (model.expert_share > 0.9) == (model.experts > 0)
    assert model.heads % model.kv_heads == 0
    assert weight_bytes(name) >= model.all_parameters * model.weight_bytes


@pytest.mark.parametrize("entry", [*GPUS.values(), *MODELS.values()], ids=[*GPUS, *MODELS])
def test_every_entry_says_where_it_is_from(entry: object) -> None:
    assert len(entry.source) > 40  # type: ignore[attr-defined]
    numbers = [getattr(entry, f.name) for f in fields(entry)]  # type: ignore[arg-type]
    assert all(n >= 0 for n in numbers if isinstance(n, int | float))


@pytest.mark.parametrize("name", GPUS)
def test_narrower_numbers_are_multiplied_faster(name: str) -> None:
    gpu = GPUS[name]
    rates = [rate for rate in (gpu.bf16_flops, gpu.fp8_flops, gpu.fp4_flops) if rate is not None]
    assert all(1.9 < b / a < 4.1 for a, b in zip(rates, rates[1:], strict=False))


def test_a_token_of_glm_takes_368_kib_of_kv_and_one_of_qwen3_8b_144() -> None:
    assert kv_bytes_per_token("glm-4.6-fp8") == 92 * 2 * 8 * 128 * 2 == 368 * 1024
    assert kv_bytes_per_token("qwen3-8b") == 36 * 2 * 8 * 128 * 2 == 144 * 1024


def test_eight_h100_hold_about_570_000_tokens_of_glm() -> None:
    assert kv_capacity_tokens("h100-sxm", "glm-4.6-fp8", 8, 0.9, 16384) == pytest.approx(570_000, rel=0.05)
    assert kv_capacity_tokens("h100-sxm", "glm-4.6-fp8", 8) == pytest.approx(570_000, rel=0.05)


def test_eight_h100_prefill_about_20_000_tokens_of_glm_a_second() -> None:
    cost = step_cost("h100-sxm", "glm-4.6-fp8", 8)
    assert cold_prefill_rate(cost) == pytest.approx(20_000, rel=0.15)
    assert cold_prefill_rate(cost, 16_384) == pytest.approx(20_000, rel=0.15)


def test_a_decode_step_of_forty_agents_on_eight_h100_takes_15_to_35_ms() -> None:
    context = 40 * 13_000
    seconds = step_cost("h100-sxm", "glm-4.6-fp8", 8).step_s(tokens=40, context=context, pairs=context)
    assert 0.015 < seconds < 0.035


@given(gpus, models, cards, shares, batches)
def test_weights_and_cache_never_take_more_than_vllm_was_given(
    gpu: str, model: str, tensor_parallel: int, share: float, batch: int
) -> None:
    try:
        tokens = kv_capacity_tokens(gpu, model, tensor_parallel, share, batch)
    except UsageError:
        return
    copies = max(1, tensor_parallel // MODELS[model].kv_heads)
    taken = weight_bytes(model) + tokens * kv_bytes_per_token(model) * copies
    assert tokens >= batch
    assert taken < tensor_parallel * GPUS[gpu].memory_gib * GIB * share


@given(gpus, models, cards, shares, batches)
def test_a_larger_batch_leaves_no_more_to_the_cache_and_more_memory_no_less(
    gpu: str, model: str, tensor_parallel: int, share: float, batch: int
) -> None:
    try:
        tokens = kv_capacity_tokens(gpu, model, tensor_parallel, share, batch)
    except UsageError:
        return
    assert kv_capacity_tokens(gpu, model, tensor_parallel, share, batch // 2) >= tokens
    assert kv_capacity_tokens(gpu, model, tensor_parallel, share + 0.05, batch) > tokens


@given(gpus, models, cards, st.integers(1, 16_384), st.integers(0, 200_000))
def test_a_step_is_never_faster_for_having_more_to_do(
    gpu: str, model: str, tensor_parallel: int, tokens: int, context: int
) -> None:
    cost = step_cost(gpu, model, tensor_parallel)
    seconds = cost.step_s(tokens=tokens, context=context, pairs=context)
    assert seconds >= cost.fixed_s
    assert cost.step_s(tokens=tokens + 1, context=context + 1, pairs=context + 1) > seconds


@pytest.mark.parametrize("model", [name for name in MODELS if weight_bytes(name) > 100e9])
@pytest.mark.parametrize("gpu", [name for name, gpu in GPUS.items() if gpu.link == "nvlink"])
def test_a_large_model_decodes_and_prefills_faster_on_more_cards(gpu: str, model: str) -> None:
    two, eight = step_cost(gpu, model, 2), step_cost(gpu, model, 8)
    assert eight.step_s(tokens=1, context=1000, pairs=1000) < two.step_s(tokens=1, context=1000, pairs=1000)
    assert cold_prefill_rate(eight, 8192) > cold_prefill_rate(two, 8192)


@given(gpus, models)
def test_a_single_card_talks_to_nobody(gpu: str, model: str) -> None:
    cost = step_cost(gpu, model)
    assert cost.allreduces == 0
    assert cost.link_bytes_per_token == 0


def test_more_cards_than_kv_heads_keep_each_head_more_than_once() -> None:
    """Qwen3-235B has 4 of them."""
    four, eight = (step_cost("b200", "qwen3-235b-a22b-fp8", n).kv_bytes_per_token for n in (4, 8))
    assert eight == 2 * four == 2 * kv_bytes_per_token("qwen3-235b-a22b-fp8")


def test_fp8_weights_are_multiplied_in_bf16_where_there_is_no_fp8() -> None:
    rates = {gpu: step_cost(gpu, "qwen3-coder-30b-a3b-fp8").flops_per_s for gpu in ("a100-80g", "h100-sxm")}
    assert rates["h100-sxm"] > 2.5 * rates["a100-80g"]


def test_a_model_that_does_not_fit_is_refused_with_what_it_needs_and_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"does not fit on 1 × h100-sxm: each needs 33\d\.\d GiB .*, has 71\.3 GiB"):
        kv_capacity_tokens("h100-sxm", "glm-4.6-fp8", 1)


def test_a_model_that_cannot_be_split_is_refused() -> None:
    for tensor_parallel in (0, 3, 5):
        with pytest.raises(UsageError, match=f"cannot be split over {tensor_parallel} GPUs"):
            step_cost("h100-sxm", "glm-4.6-fp8", tensor_parallel)


@pytest.mark.parametrize(
    ("gpu", "model", "meant"),
    [
        ("h100-smx", "qwen3-8b", "h100-sxm"),
        ("h100", "qwen3-8b", "h100-sxm"),
        ("H200", "qwen3-8b", "h200"),
        ("h200", "qwen-3-8b", "qwen3-8b"),
        ("h200", "GLM", "glm-4.6-fp8"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(gpu: str, model: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{meant}'") as refused:
        step_cost(gpu, model)
    assert meant in (refused.value.hint or "")


@pytest.mark.parametrize("name", PROFILES)
def test_each_emulated_profile_is_a_worker_that_vllm_would_start(name: str) -> None:
    """It refuses to start with less KV cache than one whole context, and contexts longer than the model's."""
    profile = load_profile(name).profile
    worker = emulation_of(profile)
    longest = profile.model.max_model_len
    assert longest is not None
    assert longest <= worker.kv_tokens
    assert longest <= MODELS[profile.emulation.model or ""].context_length
    assert worker.max_num_seqs <= worker.max_num_batched_tokens
