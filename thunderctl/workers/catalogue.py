"""GPUs and models as figures: how large, how fast, from where known. Data first; what follows from it is at the end.

A figure is what a maker or a model's own ``config.json`` states. How much of it is reached in practice stands in the
named constants, and nowhere else. Measured costs (``thunderctl calibrate``) replace all of this where there are any.
Data-sheet figures were checked against public tables that quote the sheets, not against the sheets themselves.
Bytes, seconds and FLOP are plain; GiB is 2**30 bytes.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from thunderctl.errors import UsageError
from thunderctl.workers.inside.thunderctl_timing import Roofline

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. Rates are peaks: dense, without sparsity, accumulating in 32 bits."""

    title: str
    memory_gib: float
    """What the driver lets a process allocate (``torch.cuda.get_device_properties``), not what the box says."""
    memory_bytes_per_s: float
    bf16_flops: float
    fp8_flops: float | None
    """None: weights in FP8 are unpacked and multiplied in BF16."""
    fp4_flops: float | None
    link: Literal["nvlink", "pcie"]
    link_bytes_per_s: float
    """Of one GPU, in one direction."""
    source: str


# fmt: off
GPUS: dict[str, Gpu] = {
    "h100-sxm": Gpu(
        "NVIDIA H100 80 GB SXM",
        memory_gib=79.18, memory_bytes_per_s=3.35e12, bf16_flops=989.4e12, fp8_flops=1978.9e12, fp4_flops=None,
        link="nvlink", link_bytes_per_s=450e9,
        source="NVIDIA H100 data sheet (3.35 TB/s, 989 and 1,979 TFLOPS dense, NVLink 900 GB/s both ways); memory as "
        "PyTorch reports it in public logs (79.11 to 79.19 GiB, by driver)",
    ),
    "h200": Gpu(
        "NVIDIA H200 141 GB SXM",
        memory_gib=139.80, memory_bytes_per_s=4.8e12, bf16_flops=989.4e12, fp8_flops=1978.9e12, fp4_flops=None,
        link="nvlink", link_bytes_per_s=450e9,
        source="NVIDIA H200 data sheet (4.8 TB/s, arithmetic and NVLink as H100); memory as PyTorch reports it in "
        "public logs (139.80 GiB)",
    ),
    "a100-80g": Gpu(
        "NVIDIA A100 80 GB SXM",
        memory_gib=79.15, memory_bytes_per_s=2.039e12, bf16_flops=312e12, fp8_flops=None, fp4_flops=None,
        link="nvlink", link_bytes_per_s=300e9,
        source="NVIDIA A100 data sheet (2,039 GB/s, 312 TFLOPS dense, NVLink 600 GB/s both ways; no FP8); memory as "
        "PyTorch reports it in public logs (79.15 GiB)",
    ),
    "rtx-5090": Gpu(
        "NVIDIA GeForce RTX 5090 32 GB",
        memory_gib=31.36, memory_bytes_per_s=1.792e12, bf16_flops=209.5e12, fp8_flops=419e12, fp4_flops=1676e12,
        link="pcie", link_bytes_per_s=64e9,
        source="NVIDIA RTX Blackwell architecture paper (1,792 GB/s, FP4 1,676 TFLOPS dense, PCIe 5.0 x16); memory as "
        "PyTorch reports it in public logs (31.36 GiB). Not verified: the rates with 32-bit accumulation, taken as "
        "half of those with 16 bits (419 and 838 TFLOPS)",
    ),
    "l40s": Gpu(
        "NVIDIA L40S 48 GB",
        memory_gib=44.40, memory_bytes_per_s=864e9, bf16_flops=362.05e12, fp8_flops=733e12, fp4_flops=None,
        link="pcie", link_bytes_per_s=32e9,
        source="NVIDIA L40S data sheet (864 GB/s, 362.05 and 733 TFLOPS dense, PCIe 4.0 x16, no NVLink); memory as "
        "PyTorch reports it in public logs (44.40 GiB, error correction on)",
    ),
    "b200": Gpu(
        "NVIDIA B200 180 GB SXM",
        memory_gib=178.35, memory_bytes_per_s=8.0e12, bf16_flops=2250e12, fp8_flops=4500e12, fp4_flops=9000e12,
        link="nvlink", link_bytes_per_s=900e9,
        source="NVIDIA DGX B200 data sheet, an eighth of each (64 TB/s, 36 and 72 PFLOPS in FP8 and FP4 dense, NVLink "
        "1.8 TB/s both ways); others state 7.7 TB/s. Memory as PyTorch reports it in public logs (178.35 GiB)",
    ),
}
# fmt: on


@dataclass(frozen=True, slots=True)
class Model:
    """A decoder-only transformer with grouped-query attention and SwiGLU, dense or with routed experts.

    ``parameters`` and ``active_parameters`` are what its makers publish; everything computed here comes from the
    shapes, and a test compares the two.
    """

    title: str
    """Name on Hugging Face."""
    parameters: float
    active_parameters: float
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    """Width of the feed-forward block in layers without experts."""
    vocabulary: int
    context_length: int
    weight_bytes: float
    """Bytes of a parameter in a matrix product; embeddings, output layer and routers have 2."""
    source: str
    experts: int = 0
    """Routed experts in a layer; 0: dense."""
    experts_per_token: int = 0
    shared_experts: int = 0
    expert_intermediate: int = 0
    dense_layers: int = 0
    """Leading layers without experts."""
    kv_bytes: float = 2
    """Bytes of a number in the KV cache."""

    @property
    def expert_layers(self) -> int:
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def expert_parameters(self) -> int:
        """Of all routed experts together: gate, up and down of each."""
        return self.expert_layers * self.experts * 3 * self.hidden * self.expert_intermediate

    @property
    def expert_share(self) -> float:
        """Routed experts' share of all parameters."""
        return self.expert_parameters / self.all_parameters

    @property
    def block_parameters(self) -> int:
        """Of what every token passes: attention, dense feed-forward blocks, shared experts."""
        attention = 2 * self.hidden * self.head_size * (self.heads + self.kv_heads)
        shared = self.shared_experts * 3 * self.hidden * self.expert_intermediate
        dense = (self.layers - self.expert_layers) * 3 * self.hidden * self.intermediate
        return self.layers * attention + self.expert_layers * shared + dense

    @property
    def router_parameters(self) -> int:
        return self.expert_layers * self.hidden * self.experts

    @property
    def embedding_parameters(self) -> int:
        """Input and output together. No model here ties them."""
        return 2 * self.vocabulary * self.hidden

    @property
    def all_parameters(self) -> int:
        return self.block_parameters + self.expert_parameters + self.router_parameters + self.embedding_parameters

    @property
    def token_parameters(self) -> float:
        """Parameters that a token is multiplied with, embeddings and output layer apart."""
        routed = self.expert_parameters * self.experts_per_token / self.experts if self.experts else 0.0
        return self.block_parameters + self.router_parameters + routed


_QWEN3 = "config.json of {0} on Hugging Face; the same shapes stand in slime, scripts/models/{1}"

# fmt: off
MODELS: dict[str, Model] = {
    "glm-4.6-fp8": Model(
        "zai-org/GLM-4.6-FP8",
        parameters=355e9, active_parameters=32e9, layers=92, hidden=5120, heads=96, kv_heads=8, head_size=128,
        intermediate=12288, vocabulary=151552, context_length=202752, weight_bytes=1, experts=160,
        experts_per_token=8, shared_experts=1, expert_intermediate=1536, dense_layers=3,
        source="config.json of zai-org/GLM-4.6-FP8; the same shapes stand in NVIDIA Megatron Bridge's page on GLM 4.5 "
        "and in slime, scripts/models/glm4.5-355B-A32B.sh. 355 billion count the draft layer (4 billion), which "
        "vLLM loads only for speculation, and leave out the embeddings",
    ),
    "qwen3-235b-a22b-fp8": Model(
        "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8",
        parameters=235e9, active_parameters=22e9, layers=94, hidden=4096, heads=64, kv_heads=4, head_size=128,
        intermediate=12288, vocabulary=151936, context_length=262144, weight_bytes=1, experts=128,
        experts_per_token=8, expert_intermediate=1536,
        source=_QWEN3.format("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "qwen3-235B-A22B.sh"),
    ),
    "qwen3-8b": Model(
        "Qwen/Qwen3-8B",
        parameters=8.2e9, active_parameters=8.2e9, layers=36, hidden=4096, heads=32, kv_heads=8, head_size=128,
        intermediate=12288, vocabulary=151936, context_length=40960, weight_bytes=2,
        source=_QWEN3.format("Qwen/Qwen3-8B", "qwen3-8B.sh") + " (context length: not verified there)",
    ),
    "qwen3-32b": Model(
        "Qwen/Qwen3-32B",
        parameters=32.8e9, active_parameters=32.8e9, layers=64, hidden=5120, heads=64, kv_heads=8, head_size=128,
        intermediate=25600, vocabulary=151936, context_length=40960, weight_bytes=2,
        source=_QWEN3.format("Qwen/Qwen3-32B", "qwen3-32B.sh") + " (context length: not verified there)",
    ),
    "qwen3-coder-30b-a3b-fp8": Model(
        "Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8",
        parameters=30.5e9, active_parameters=3.3e9, layers=48, hidden=2048, heads=32, kv_heads=4, head_size=128,
        intermediate=6144, vocabulary=151936, context_length=262144, weight_bytes=1, experts=128, experts_per_token=8,
        expert_intermediate=768,
        source=_QWEN3.format("Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8", "qwen3-30B-A3B.sh")
        + "; layers, heads, experts and context length also on its model card",
    ),
    "llama-3.3-70b": Model(
        "meta-llama/Llama-3.3-70B-Instruct",
        parameters=70.6e9, active_parameters=70.6e9, layers=80, hidden=8192, heads=64, kv_heads=8, head_size=128,
        intermediate=28672, vocabulary=128256, context_length=131072, weight_bytes=2,
        source="config.json of meta-llama/Llama-3.3-70B-Instruct; the same shapes stand in oumi, "
        "configs/recipes/llama3_3/README.md",
    ),
}
# fmt: on

# How much of a peak is reached. Nothing here was measured by us: each lies within what is published of kernels of its
# kind, and together they let 8 × h100-sxm with glm-4.6-fp8 prefill about 20,000 tokens/s cold, as others reckon.
MEMORY_EFFICIENCY = 0.8
"""Of the memory bandwidth, by kernels that stream weights or KV."""
PRODUCT_EFFICIENCY = 0.5
"""Of the peak, by a prefill's dense products with quantising their inputs; the product alone reaches 0.6 to 0.7."""
EXPERT_EFFICIENCY = 0.15
"""By the products of routed experts: each gets a twentieth of the batch, and tensor parallelism slices it thin."""
ATTENTION_EFFICIENCY = 0.5
"""Of the BF16 peak, by prefill attention over contexts of thousands of tokens."""
LINK_EFFICIENCY = 0.6
"""Of the link, by all-reduces of tens of megabytes; 0.8 is the best that NCCL reaches, with gigabytes."""
PASSES = 20
"""Times that a token's hidden state goes through memory in a layer beside the products: norms, residual, rotation,
quantising, activation. Tensor parallelism does not divide it. An expert's copies come on top: written and read."""
ALLREDUCE_LATENCY_S = {"nvlink": 12e-6, "pcie": 40e-6}
"""Of one small all-reduce. Cards on PCIe synchronise through the host's root complex."""
FIXED_S = 0.003
"""vLLM's scheduling, launching CUDA graphs and sampling, per step; an estimate: 3 to 5 ms are told of vLLM."""
FIXED_PARALLEL_S = 0.001
"""Handing a step to the processes of the other GPUs."""

CONTEXT_GIB = 0.6
"""Memory outside of PyTorch's: CUDA context, kernels, workspaces. As vLLM's profiling counts it ("non-torch")."""
COLLECTIVES_GIB = 1.0
"""NCCL's and the custom all-reduce's buffers, where there are several GPUs."""
GRAPHS_GIB = 0.8
"""CUDA graphs up to 512 tokens; vLLM logs 0.3 to 1.1 GiB."""
SAMPLED = 256
"""Requests that vLLM samples for in its profiling run (``max_num_seqs``): four 32-bit copies of their logits."""
LIVE_COPIES = 6
"""Hidden states, residual and the like of a batch that live at the same time in a layer."""


def step_cost(gpu: str, model: str, tensor_parallel: int = 1) -> Roofline:
    """The time model of one worker: ``model`` on ``tensor_parallel`` times ``gpu``.

    ``flops_per_s`` is the rate over everything that a token costs outside of attention, element-wise kernels
    included, so it is lower than any product's own. Attention has its own rate; ``flops_per_pair`` is scaled to it.
    """
    g, m = find_gpu(gpu), find_model(model)
    _check_split(m, tensor_parallel)
    peak = _flops(g, m)
    routed = m.expert_parameters * m.experts_per_token / m.experts if m.experts else 0.0
    products = (m.token_parameters - routed) / PRODUCT_EFFICIENCY + routed / EXPERT_EFFICIENCY
    copied = m.layers * PASSES + m.expert_layers * 2 * m.experts_per_token
    token_s = 2 * products / (tensor_parallel * peak) + copied * 2 * m.hidden / (
        g.memory_bytes_per_s * MEMORY_EFFICIENCY
    )
    rate = 2 * m.token_parameters / token_s
    pair_rate = tensor_parallel * g.bf16_flops * ATTENTION_EFFICIENCY
    parallel = tensor_parallel > 1
    reductions = 2 * m.layers if parallel else 0
    return Roofline(
        dense_bytes=m.block_parameters * m.weight_bytes + 2 * (m.router_parameters + m.vocabulary * m.hidden),
        expert_bytes=m.expert_parameters * m.weight_bytes,
        experts=m.experts,
        experts_per_token=m.experts_per_token,
        flops_per_token=2 * m.token_parameters,
        flops_per_pair=4 * m.heads * m.head_size * m.layers * rate / pair_rate,
        kv_bytes_per_token=kv_bytes_per_token(model) * _kv_copies(m, tensor_parallel),
        memory_bytes_per_s=tensor_parallel * g.memory_bytes_per_s * MEMORY_EFFICIENCY,
        flops_per_s=rate,
        allreduces=reductions,
        allreduce_latency_s=ALLREDUCE_LATENCY_S[g.link] if parallel else 0.0,
        link_bytes_per_token=reductions * 2 * m.hidden * 2 * (tensor_parallel - 1) / tensor_parallel,
        link_bytes_per_s=g.link_bytes_per_s * LINK_EFFICIENCY,
        fixed_s=FIXED_S + (FIXED_PARALLEL_S if parallel else 0.0),
    )


def kv_bytes_per_token(model: str) -> float:
    """Keys and values of one token, over all layers."""
    m = find_model(model)
    return 2 * m.layers * m.kv_heads * m.head_size * m.kv_bytes


def weight_bytes(model: str) -> float:
    """What vLLM loads, over all GPUs of a worker."""
    m = find_model(model)
    return (m.block_parameters + m.expert_parameters) * m.weight_bytes + 2 * (
        m.router_parameters + m.embedding_parameters
    )


def kv_capacity_tokens(
    gpu: str,
    model: str,
    tensor_parallel: int = 1,
    gpu_memory_utilization: float = 0.9,
    max_num_batched_tokens: int = 8192,
) -> int:
    """Tokens that a worker's KV cache holds, reckoned as vLLM does (v1/worker/gpu_worker.py).

    Memory × utilization − weights − the profiling run's peak − CUDA graphs, divided by a token's KV on one GPU.

    Raises:
        UsageError: the model does not fit, or cannot be split over so many GPUs.
    """
    g, m = find_gpu(gpu), find_model(model)
    _check_split(m, tensor_parallel)
    has = g.memory_gib * GIB * gpu_memory_utilization
    taken = _weights_per_gpu(m, tensor_parallel) + _overhead(m, tensor_parallel, max_num_batched_tokens)
    per_token = kv_bytes_per_token(model) * _kv_copies(m, tensor_parallel) / tensor_parallel
    tokens = int((has - taken) / per_token)
    if tokens < max_num_batched_tokens:
        needs = taken + max_num_batched_tokens * per_token
        raise UsageError(
            f"{model} does not fit on {tensor_parallel} × {gpu}: each needs {needs / GIB:.1f} GiB "
            f"(weights {_weights_per_gpu(m, tensor_parallel) / GIB:.1f}, and room for one batch), "
            f"has {has / GIB:.1f} GiB ({gpu_memory_utilization:.0%} of {g.memory_gib:.1f})",
            hint="use more GPUs for a worker, larger ones, or a smaller model",
        )
    return tokens


_Named = TypeVar("_Named")


def find_gpu(name: str) -> Gpu:
    """``UsageError`` with the nearest name if there is no such GPU."""
    return _find(GPUS, name, "GPU")


def find_model(name: str) -> Model:
    """``UsageError`` with the nearest name if there is no such model."""
    return _find(MODELS, name, "model")


def _find(known: Mapping[str, _Named], name: str, what: str) -> _Named:
    if name in known:
        return known[name]
    begun = [entry for entry in known if name and entry.startswith(name.lower())]
    close = begun or difflib.get_close_matches(name.lower(), known, 1)
    raise UsageError(
        f"the catalogue has no {what} {name!r}" + (f", did you mean {close[0]!r}?" if close else ""),
        hint=f"there are: {', '.join(known)}",
    )


def _check_split(m: Model, tensor_parallel: int) -> None:
    """vLLM's own rule: query heads divide by the GPUs, and KV heads divide by them or into them."""
    n = tensor_parallel
    if n < 1 or m.heads % n or (m.kv_heads % n and n % m.kv_heads):
        raise UsageError(
            f"{m.title} cannot be split over {tensor_parallel} GPUs: it has {m.heads} query heads and "
            f"{m.kv_heads} KV heads"
        )


def _kv_copies(m: Model, tensor_parallel: int) -> int:
    """How often each KV head is kept: more than once where there are more GPUs than KV heads."""
    return max(1, tensor_parallel // m.kv_heads)


def _flops(g: Gpu, m: Model) -> float:
    return (g.fp8_flops or g.bf16_flops) if m.weight_bytes <= 1 else g.bf16_flops


def _weights_per_gpu(m: Model, tensor_parallel: int) -> float:
    """Everything is divided but the routers."""
    divided = (m.block_parameters + m.expert_parameters) * m.weight_bytes + 2 * m.embedding_parameters
    return divided / tensor_parallel + 2 * m.router_parameters


def _overhead(m: Model, tensor_parallel: int, batched: int) -> float:
    """Bytes on each GPU beside weights and KV: the widest layer's activations of a full batch, logits, the rest."""
    sliced = 2 * m.head_size * (m.heads + m.kv_heads) + 3 * m.intermediate
    widest = LIVE_COPIES * m.hidden + sliced / tensor_parallel
    if m.experts:
        routed = m.hidden + 3 * m.expert_intermediate / tensor_parallel
        widest = LIVE_COPIES * m.hidden + max(sliced / tensor_parallel, m.experts_per_token * routed)
    activations = batched * 2 * widest
    logits = SAMPLED * m.vocabulary * 4 * 4
    rest = CONTEXT_GIB + GRAPHS_GIB + (COLLECTIVES_GIB if tensor_parallel > 1 else 0.0)
    return activations + logits + rest * GIB
