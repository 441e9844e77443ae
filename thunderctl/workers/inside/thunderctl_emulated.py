"""A vLLM worker without arithmetic: it waits as long as a GPU would take and answers with scripted or made-up tokens.

Loaded by vLLM itself (``--worker-cls thunderctl_emulated.EmulatedWorker``). The API server, the scheduler, the block
manager with its prefix cache, preemption and metrics are vLLM's own; only what happens inside a step is not. The time
model comes from ``THUNDERCTL_EMULATION`` (JSON, made by ``workers/emulation.py``). This file may import torch and
vLLM, never thunderctl.

What a client can see is kept: stop tokens, ``max_tokens``, ``min_tokens``, ``ignore_eos``, ``n``, ``seed``, aborts and
``allowed_token_ids``. What would need a real distribution is refused with a 400 by ``Checks``: log-probabilities and
structured output.

The clock: a step is due one step time after the former one was due, as long as the engine had work in between; so the
host's own work between steps costs nothing unless it takes longer than the step. What is late is *lag*, counted and
handed out through ``THUNDERCTL_EMULATION_FILE``: three doubles, the steps so far, the seconds they should have taken
and the seconds of lag, both on the emulated clock.
"""

from __future__ import annotations

import json
import os
import random
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import thunderctl_replay
import thunderctl_timing
import torch
from vllm.sampling_params import SamplingParams
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheSpec
from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, DraftTokenIds, ModelRunnerOutput
from vllm.v1.worker.worker_base import CompilationTimes, WorkerBase

SETTINGS_VARIABLE = "THUNDERCTL_EMULATION"
LAG_FILE_VARIABLE = "THUNDERCTL_EMULATION_FILE"
FIRST_WORD = 300
"""Ids from here on are words in every vocabulary of ours; below are bytes and special tokens."""
ANSWER_MEDIAN_TOKENS = 81
ANSWER_SIGMA = 1.3
"""Made-up answers are as long as those of real coding agents: log-normal, median 81 tokens, a heavy tail."""


class Checks(thunderctl_replay.Replay):
    """Named on the command line as a logits processor, for its validation in the API server alone."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """``ValueError`` (a 400) for what an emulated worker cannot answer honestly."""
        super().validate_params(sampling_params)
        if sampling_params.logprobs is not None or sampling_params.prompt_logprobs is not None:
            raise ValueError("an emulated worker computes no probabilities: logprobs cannot be had from it")
        if sampling_params.structured_outputs is not None:
            raise ValueError("an emulated worker cannot follow a grammar: structured outputs are refused")


@dataclass(slots=True)
class Request:
    """What the worker remembers of a request between steps."""

    prompt: int
    """Tokens of its prompt."""
    answer: Answer
    computed: int = 0
    """Tokens whose KV exists; vLLM's word, sent with each step."""
    emitted: int = 0
    """Tokens that it was answered with so far; likewise."""


@dataclass(slots=True)
class Answer:
    """The token at each position of an answer: scripted, then made up from a seed, so that it can be asked twice."""

    script: Sequence[int] | None
    length: int
    """Position at which a made-up answer ends its turn."""
    end: int | None
    """The token that ends it; None if nothing does."""
    forbidden: frozenset[int]
    """Tokens that would stop the request; never made up before ``length``."""
    choices: Sequence[int]
    seed: int
    _made: list[int] = field(default_factory=list)
    _random: random.Random | None = None

    def token(self, position: int) -> int:
        """The token at ``position`` (from 0)."""
        if self.script is not None and position < len(self.script):
            return self.script[position]
        if self.script is None and self.end is not None and position >= self.length:
            return self.end
        if self._random is None:
            self._random = random.Random(self.seed)
        while len(self._made) <= position:
            token = self._random.choice(self.choices)
            while token in self.forbidden:
                token = self._random.choice(self.choices)
            self._made.append(token)
        return self._made[position]


def answer_to(params: SamplingParams, key: str, vocabulary: int, encode_text: Callable[[str], Sequence[int]]) -> Answer:
    """How a request will be answered. ``key`` seeds it where the request brings no seed of its own."""
    end = thunderctl_replay.end_of_turn(params)
    seeded = random.Random(f"{params.seed}" if params.seed is not None else key)
    length = max(1, params.min_tokens, round(seeded.lognormvariate(0.0, ANSWER_SIGMA) * ANSWER_MEDIAN_TOKENS))
    stops = frozenset(params.all_stop_token_ids) | ({end} if end is not None else set())
    allowed = [t for t in params.allowed_token_ids or () if 0 <= t < vocabulary and t not in stops]
    return Answer(
        script=thunderctl_replay.scripted_tokens(params, vocabulary, encode_text),
        length=length,
        end=end,
        forbidden=stops,
        choices=allowed or range(min(FIRST_WORD, vocabulary // 2), vocabulary),
        seed=seeded.getrandbits(64),
    )


class Clock:
    """Keeps steps on time, and accounts for those that the host could not."""

    def __init__(self, scale: float, path: str | None) -> None:
        self._scale = scale
        self._due = 0.0
        self._steps = 0
        self._busy = 0.0
        self._lag = 0.0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if path else None

    def pass_step(self, seconds: float, *, follows: bool) -> None:
        """Return when a step of ``seconds`` is over. ``follows``: the engine had work ever since the last one."""
        now = time.monotonic()
        self._due = (self._due if follows else now) + seconds * self._scale
        late = now - self._due
        if late > 0:
            self._lag += late / self._scale
            self._due = now
        else:
            time.sleep(-late)
        self._steps += 1
        self._busy += seconds
        if self._file is not None:
            os.pwrite(self._file, struct.pack("<3d", self._steps, self._busy, self._lag), 0)


class EmulatedWorker(WorkerBase):
    """What vLLM's executor calls; one instance stands for all GPUs of the worker."""

    def init_device(self) -> None:
        settings = json.loads(os.environ[SETTINGS_VARIABLE])
        self.device = torch.device("cpu")
        self._cost = thunderctl_timing.from_json(json.dumps(settings["cost"]))
        self._capacity_tokens = int(settings["kv_tokens"])
        self._acceptance = float(settings.get("acceptance", 0.0))
        self._clock = Clock(float(settings.get("time_scale", 1.0)), os.environ.get(LAG_FILE_VARIABLE))
        self._requests: dict[str, Request] = {}
        self._vocabulary = self.model_config.get_vocab_size()
        self._guesses = random.Random(0)
        self._drafts: DraftTokenIds | None = None
        self._output: ModelRunnerOutput | None = None
        self._tokenizer: Any = None
        self._encode = lru_cache(maxsize=1024)(self._encode_uncached)

    def _encode_uncached(self, text: str) -> tuple[int, ...]:
        if self._tokenizer is None:
            self._tokenizer = thunderctl_replay.worker_tokenizer(self.model_config)
        return tuple(thunderctl_replay.encode(self._tokenizer, text))

    # ------------------------------------------------------------------ what there is instead of a model

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        pass

    def reload_weights(self, weights_path: str | None = None) -> None:
        """There are none to be replaced; what was cached is dropped by vLLM, as ever."""
        if weights_path is not None and not os.path.isdir(weights_path):  # noqa: PTH112 - one look, no path
            raise ValueError(f"there is no folder {weights_path}")

    def get_supported_tasks(self) -> tuple[str, ...]:
        return ("generate",)

    def compile_or_warm_up_model(self) -> CompilationTimes:
        return CompilationTimes(0.0, 0.0)

    def get_supported_kv_cache_layouts(self) -> list[str]:
        return ["LBHNC"]

    def set_kv_cache_layout(self, kv_cache_layout: str) -> None:
        pass

    def get_kv_cache_spec(self) -> dict[str, KVCacheSpec]:
        """One layer stands for all: vLLM counts blocks, and nobody allocates them."""
        return {
            "emulated": FullAttentionSpec(
                block_size=self.cache_config.block_size, num_kv_heads=1, head_size=64, dtype=torch.bfloat16
            )
        }

    def determine_available_memory(self) -> int:
        spec = self.get_kv_cache_spec()["emulated"]
        blocks = -(-self._capacity_tokens // self.cache_config.block_size)
        return int(blocks * spec.page_size_bytes)

    def initialize_from_config(self, kv_cache_config: Any) -> None:
        pass

    def initialize_cache(self, num_gpu_blocks: int, num_cpu_blocks: int) -> None:
        pass

    def get_cache_block_size_bytes(self) -> int:
        return int(self.get_kv_cache_spec()["emulated"].page_size_bytes)

    def update_max_model_len(self, max_model_len: int) -> None:
        self.model_config.max_model_len = max_model_len

    def reset_mm_cache(self) -> None:
        pass

    def reset_encoder_cache(self) -> None:
        pass

    def synchronize_device(self) -> None:
        pass

    def execute_dummy_batch(self) -> None:
        pass

    def add_lora(self, lora_request: Any) -> bool:
        return False

    def remove_lora(self, lora_id: int) -> bool:
        return False

    def pin_lora(self, lora_id: int) -> bool:
        return False

    def list_loras(self) -> set[int]:
        return set()

    # ------------------------------------------------------------------ a step

    def execute_model(self, scheduler_output: Any) -> ModelRunnerOutput | None:
        step = scheduler_output
        for name in step.finished_req_ids:
            self._requests.pop(name, None)
        # Whoever is left ran in the step before and did not end there: the engine was never out of work.
        follows = bool(self._requests)
        self._learn(step)
        if step.total_num_scheduled_tokens == 0:
            return EMPTY_MODEL_RUNNER_OUTPUT
        names = list(step.num_scheduled_tokens)
        answers: list[list[int]] = []
        context = pairs = sampled = 0
        for name in names:
            new = step.num_scheduled_tokens[name]
            request = self._requests[name]
            context += request.computed + new
            pairs += thunderctl_timing.pairs_of(request.computed, new)
            answers.append(self._answer(request, new, step.scheduled_spec_decode_tokens.get(name, ())))
            sampled += bool(answers[-1])
        tokens = step.total_num_scheduled_tokens
        seconds = self._cost.step_s(tokens=tokens, context=context, pairs=pairs, sampled=sampled)
        self._clock.pass_step(seconds, follows=follows)
        self._propose(names, answers)
        self._output = ModelRunnerOutput(
            req_ids=names, req_id_to_index={name: i for i, name in enumerate(names)}, sampled_token_ids=answers
        )
        return None

    def sample_tokens(self, grammar_output: Any) -> ModelRunnerOutput:
        output, self._output = self._output, None
        return output or EMPTY_MODEL_RUNNER_OUTPUT

    def _learn(self, step: Any) -> None:
        """Take over what the scheduler says about its requests."""
        for new in step.scheduled_new_reqs:
            answer = answer_to(new.sampling_params, new.req_id, self._vocabulary, self._encode)
            self._requests[new.req_id] = Request(new.prompt_len, answer, new.num_computed_tokens)
        known = step.scheduled_cached_reqs
        for name, computed, emitted in zip(
            known.req_ids, known.num_computed_tokens, known.num_output_tokens, strict=True
        ):
            request = self._requests[name]
            request.computed, request.emitted = computed, emitted

    def _answer(self, request: Request, new: int, drafts: Sequence[int]) -> list[int]:
        """The tokens that this step samples: none while the prompt is not through, else one more than drafts hold."""
        last = request.computed + new - len(drafts)
        if last < request.prompt + request.emitted:
            return []
        found = []
        for draft in drafts:
            token = request.answer.token(request.emitted + len(found))
            found.append(token)
            if token != draft:
                return found
        return [*found, request.answer.token(request.emitted + len(found))]

    # ------------------------------------------------------------------ speculation

    def _propose(self, names: list[str], answers: list[list[int]]) -> None:
        """Drafts for the next step, right with the stated probability at each position, wrong ever after."""
        if self.speculative_config is None:
            return
        count = self.speculative_config.num_speculative_tokens
        drafts = [self._draft(n, len(a), count) if a else [] for n, a in zip(names, answers, strict=True)]
        self._drafts = DraftTokenIds(names, drafts)

    def _draft(self, name: str, sampled: int, count: int) -> list[int]:
        request = self._requests[name]
        start = request.emitted + sampled
        right = 0
        while right < count and self._guesses.random() < self._acceptance:
            right += 1
        drafts = [request.answer.token(start + i) for i in range(right)]
        while len(drafts) < count:
            drafts.append((request.answer.token(start + len(drafts)) + 1) % self._vocabulary)
        return drafts

    def take_draft_token_ids(self) -> DraftTokenIds | None:
        drafts, self._drafts = self._drafts, None
        return drafts
