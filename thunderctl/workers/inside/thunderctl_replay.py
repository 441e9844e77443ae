"""Forces a request to answer with a recorded text. Loaded by vLLM itself (``--logits-processors``), not by thunderctl.

A request with ``"vllm_xargs": {"replay": "<text>"}`` (or a list of token ids) emits exactly those tokens and then the
token that ends the turn; other requests are left alone. This file lives in the server's processes: it may import
torch and vLLM, never thunderctl.

Two processes meet here. The API server validates, so that a wrong parameter is a 400; it counts a text's tokens
with the tokenizer that ``THUNDERCTL_REPLAY_TOKENIZER`` describes (set by ``workers/command.py``). The engine's
worker does the forcing, with the tokenizer of its own configuration. vLLM wants its V1 model runner for this
interface (``VLLM_USE_V2_MODEL_RUNNER=0``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from vllm.logger import init_logger
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, process_dict_updates

logger = init_logger("vllm.thunderctl_replay")

KEY = "replay"
TOKENIZER_VARIABLE = "THUNDERCTL_REPLAY_TOKENIZER"


@dataclass(frozen=True, slots=True)
class Script:
    """What one request must emit, and the engine's own list of what it emitted so far.

    The list is a reference that vLLM keeps up to date, through moves in the batch and through preemption, after
    which the request comes back with the same output. Its length alone says where we are: with asynchronous
    scheduling its last entries may still be place-holders.
    """

    tokens: Sequence[int]
    emitted: Sequence[int]


class Replay(LogitsProcessor):
    """The logits processor named on the server's command line as ``thunderctl_replay:Replay``."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._model_config = vllm_config.model_config
        self._vocabulary = self._model_config.get_vocab_size()
        self._scripts: dict[int, Script] = {}
        self._tokenizer: Any = None
        self._encode = lru_cache(maxsize=1024)(self._encode_uncached)

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse what cannot be replayed whole: ``ValueError`` becomes a 400 that names the reason."""
        value = (sampling_params.extra_args or {}).get(KEY)
        if value is None:
            return
        tokenizer = _front_tokenizer()
        if isinstance(value, str):
            count = len(encode(tokenizer, value)) if tokenizer else 0
        elif isinstance(value, list) and all(type(token) is int for token in value):
            wrong = [token for token in value if token < 0 or (tokenizer and token >= len(tokenizer))]
            if wrong:
                raise ValueError(f"vllm_xargs.{KEY}: no such token id: {wrong[0]}")
            count = len(value)
        else:
            raise ValueError(f"vllm_xargs.{KEY} must be a text or a list of token ids, not {type(value).__name__}")
        # The server fills in max_tokens as what is left of the model's context, so this is also the check
        # against max_model_len. One more token ends the turn, unless the request said ignore_eos.
        end = 0 if sampling_params.ignore_eos else 1
        if sampling_params.max_tokens is not None and count + end > sampling_params.max_tokens:
            raise ValueError(
                f"vllm_xargs.{KEY} takes {count} tokens{' and one to end the turn' if end else ''}, "
                f"but only {sampling_params.max_tokens} may be generated (max_tokens, or what the context leaves)"
            )

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._scripts, batch_update, self._script)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Leave one finite logit in the row of each scripted request; rows are touched for those alone."""
        rows: list[int] = []
        tokens: list[int] = []
        for row, script in self._scripts.items():
            position = len(script.emitted)
            if position < len(script.tokens):
                rows.append(row)
                tokens.append(script.tokens[position])
        if rows:
            index = torch.tensor([rows, tokens], dtype=torch.int64, device=self._device)
            logits.index_fill_(0, index[0], float("-inf"))
            logits.index_put_((index[0], index[1]), logits.new_zeros(()))
        return logits

    def _script(self, params: SamplingParams, prompt_ids: list[int] | None, emitted: list[int]) -> Script | None:
        tokens = scripted_tokens(params, self._vocabulary, self._encode)
        return None if tokens is None else Script(tokens, emitted)

    def _encode_uncached(self, text: str) -> tuple[int, ...]:
        """Ids of ``text``; cached, because a preempted request enters the batch again."""
        if self._tokenizer is None:
            self._tokenizer = worker_tokenizer(self._model_config)
        return tuple(encode(self._tokenizer, text))


def scripted_tokens(
    params: SamplingParams, vocabulary: int, encode_text: Callable[[str], Sequence[int]]
) -> tuple[int, ...] | None:
    """What a request must emit, with the token that ends the turn; None if it carries no script."""
    value = (params.extra_args or {}).get(KEY)
    if isinstance(value, str):
        tokens = tuple(encode_text(value))
    elif isinstance(value, list):
        tokens = tuple(value)
    else:
        return None
    end = end_of_turn(params)
    if any(not 0 <= token < vocabulary for token in tokens):
        # Indexing past a row would take the whole engine down. The API server refuses such ids where it
        # knows the vocabulary; what slips through says nothing at all rather than something else.
        logger.error("replay: a token id outside the vocabulary of %d; nothing is emitted", vocabulary)
        tokens = ()
    return (*tokens, end) if end is not None else tokens


def end_of_turn(params: SamplingParams) -> int | None:
    """The token at which vLLM stops this request; none if the request said ``ignore_eos``."""
    if params.ignore_eos:
        return None
    if params.eos_token_id is not None:
        return int(params.eos_token_id)
    return min(params.all_stop_token_ids, default=None)


def encode(tokenizer: Any, text: str) -> list[int]:
    """Ids of ``text`` as it stands inside a chat: nothing added before or after it."""
    return list(tokenizer.encode(text, add_special_tokens=False))


@lru_cache(maxsize=1)
def _front_tokenizer() -> Any:
    """The served model's tokenizer in the API server, where no configuration reaches a processor; None if untold."""
    said = os.environ.get(TOKENIZER_VARIABLE)
    if not said:
        return None
    where = json.loads(said)
    return _load_tokenizer(where["model"], where.get("revision"), where.get("trust_remote_code", False))


def worker_tokenizer(model_config: Any) -> Any:
    """The served model's tokenizer, in the engine's worker."""
    return _load_tokenizer(model_config.tokenizer, model_config.tokenizer_revision, model_config.trust_remote_code)


def _load_tokenizer(model: str, revision: str | None, trust_remote_code: bool) -> Any:
    try:
        from vllm.tokenizers import get_tokenizer
    except ImportError:  # older vLLM kept it elsewhere
        from vllm.transformers_utils.tokenizer import get_tokenizer
    return get_tokenizer(model, revision=revision, trust_remote_code=trust_remote_code)
