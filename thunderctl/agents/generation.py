"""One model call in token ids, put together from the pieces that it may come in.

An engine whose weights change ends its calls with ``abort`` and hands out what it has; the call is then sent again with
that behind its prompt. What each piece was made with is known for each token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from thunderctl.errors import DaemonError

if TYPE_CHECKING:
    from thunderctl.agents.client import Answer

WEIGHTS_HEADER = "X-Thunderctl-Weights"
"""Version of the weights that an answer was made with; without it, 0."""
EMPTY_ABORTS = 20
"""So often in a row may a call be aborted before its first token: weights change now and then, not without end."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished model call; ``ids``, ``versions`` and ``logprobs`` are of one length.

    Log-probabilities are the model's own: before temperature, top-p and the forcing of replay.
    """

    answer: Answer
    """Counts and seconds of all pieces together."""
    ids: list[int]
    versions: list[int]
    """Of the weights that made each token."""
    logprobs: list[float] | None
    """``None`` where the engine computes none."""
    prompt_ids: list[int]
    """What the engine says that it computed on."""
    cached_tokens: int
    """Tokens of the prompt that were in the cache when the call was sent first."""


class Pieces:
    """What came of a call so far, and what is to be sent for the rest. ``logprobs``: whether the engine has any."""

    def __init__(self, prompt: list[int], max_tokens: int, replay: str | list[int] | None, *, logprobs: bool) -> None:
        self.ids: list[int] = []
        self.replay = replay
        """What the engine is forced to emit. A text is known to the engine alone, so the rest of one is not."""
        self.ended = False
        self._prompt = prompt
        self._max_tokens = max_tokens
        self._versions: list[int] = []
        self._logprobs: list[float] | None = [] if logprobs else None
        self._answers: list[Answer] = []
        self._returned: list[int] = []
        self._empty = 0

    def body(self) -> dict[str, object]:
        """What the next request says of prompt and answer."""
        body: dict[str, object] = {"prompt": [*self._prompt, *self.ids], "max_tokens": self._max_tokens - len(self.ids)}
        body |= {"return_token_ids": True}
        if self._logprobs is not None:
            body |= {"logprobs": 0, "return_tokens_as_token_ids": True}
        if self.replay is not None:
            if self.ids and self.replay[: len(self.ids)] != self.ids:
                raise DaemonError("the engine did not emit the recorded token ids")
            body["vllm_xargs"] = {"replay": self.replay[len(self.ids) :]}
        return body

    def add(self, answer: Answer, choice: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """The answer to :meth:`body`. ``DaemonError`` if the engine computed on other ids than it was sent."""
        sent = [*self._prompt, *self.ids]
        if choice.get("prompt_token_ids") != sent:
            raise DaemonError(f"the engine computed on other token ids than the {len(sent)} that it was sent")
        if not self._answers:
            self._returned = choice["prompt_token_ids"]
        came: list[int] = choice["token_ids"]
        if self._logprobs is not None:
            known = (choice.get("logprobs") or {}).get("token_logprobs") or []
            if len(known) != len(came):
                raise DaemonError(f"the engine gave {len(known)} log-probabilities for {len(came)} tokens")
            self._logprobs += known
        self.ids += came
        self._versions += [int(headers.get(WEIGHTS_HEADER, 0))] * len(came)
        self._answers.append(answer)
        self._empty = 0 if came else self._empty + 1
        self.ended = answer.finish_reason != "abort" or len(self.ids) >= self._max_tokens
        if self._empty == EMPTY_ABORTS and not self.ended:
            raise DaemonError(f"the engine aborted a call {self._empty} times before its first token")

    @property
    def said(self) -> list[int] | None:
        """Ids whose text is still to be found out: one piece has its own, but several may be cut within a character."""
        if len(self._answers) == 1:
            return None
        return self.ids[:-1] if self._answers[-1].finish_reason == "stop" else self.ids

    def whole(self, content: str | None) -> Generation:
        """The call. ``content``: the text of ``said``."""
        answers = self._answers
        answer = replace(
            answers[-1],
            content=answers[-1].content if content is None else content,
            prompt_tokens=sum(each.prompt_tokens for each in answers),
            cached_tokens=sum(each.cached_tokens for each in answers),
            output_tokens=sum(each.output_tokens for each in answers),
            latency_s=sum(each.latency_s for each in answers),
            held_s=sum(each.held_s for each in answers),
            attempts=sum(each.attempts for each in answers),
        )
        return Generation(answer, self.ids, self._versions, self._logprobs, self._returned, answers[0].cached_tokens)
