"""Token mode: an agent's conversation as the ids that went into the engine and came out of it, ready for a trainer.

A prompt is the ids so far and the ids of what came between; what the engine returned is what is stored; text that the
model said is never tokenised again. A segment goes on for as long as each prompt begins with exactly the ids before it;
where one does not, a new segment begins, and ``breaks`` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from thunderctl.agents.chat_template import NotAnExtension
from thunderctl.agents.client import Answer, DaemonClient
from thunderctl.agents.generation import Generation
from thunderctl.rollouts.schema import NOT_THE_MODEL, Segment, Turn, digest_of

REWRITTEN = "rewritten"
"""The agent sent other messages than those before with something behind them."""
TEMPLATE = "template"
"""The model's chat template cannot put messages behind an answer as it was said."""
TRUNCATED = "truncated"
"""The prompt's beginning was cut off, to fit."""
REASONING_BEGINS, REASONING_ENDS = "<think>", "</think>"


class ContextFull(Exception):
    """The prompt leaves no room for an answer in the model's context."""


class Transcript:
    """One agent's model calls in ids. Right at any moment: a call is in it as soon as it has ended, and not before."""

    def __init__(self, client: DaemonClient) -> None:
        self.segments: list[Segment] = []
        self.breaks: list[str] = []
        """Why each segment after the first begins."""
        self._client = client
        self._messages: list[dict[str, Any]] = []
        self._tools: list[dict[str, Any]] | None = None
        self._said = ""

    async def ask(
        self,
        program: str,
        messages: list[dict[str, Any]],
        *,
        step: int,
        max_tokens: int,
        replay: str | None = None,
        group: str | None = None,
        tools: list[dict[str, Any]] | None = None,
        sampling: Mapping[str, float] | None = None,
    ) -> Answer:
        """The model's answer to ``messages``, as :meth:`DaemonClient.chat` gives it; calls stay in its text, and a live
        model's reasoning is left out of it. ``ContextFull`` if the model's context leaves no room for one.
        """
        template = self._client.template
        why, prompt = REWRITTEN, None
        if new := self._new_of(messages, tools):
            past = self.segments[-1].ids
            try:
                prompt = [*past, *await template.between(past[-1], new)]
            except NotAnExtension:
                why = TEMPLATE
        if prompt is None:
            prompt = await template.opening(messages, tools)
        if (longest := self._client.max_model_len) is not None:
            max_tokens = min(max_tokens, longest - len(prompt))
            if max_tokens < 1:
                raise ContextFull
        done = await self._client.generate(
            program, prompt, max_tokens=max_tokens, replay=replay, group=group, sampling=sampling
        )
        self._take(prompt, done, step, why)
        answer = done.answer
        if replay is None and await self._reasons(prompt, answer.content):
            answer = replace(answer, content=answer.content.partition(REASONING_ENDS)[2])
        self._messages, self._tools, self._said = [dict(message) for message in messages], tools, answer.content
        return answer

    async def _reasons(self, prompt: list[int], content: str) -> bool:
        """Whether an answer begins with reasoning: it says so itself, or the template had it begin so."""
        return content.lstrip().startswith(REASONING_BEGINS) or (
            (await self._client.template.last_words(prompt)).rstrip().endswith(REASONING_BEGINS)
        )

    async def complete(
        self, program: str, prompt: list[int], replay: list[int], *, step: int, group: str | None = None, why: str
    ) -> Answer:
        """A call in ids, forced to emit ``replay``. ``why``: the reason if ``prompt`` does not extend the last call."""
        done = await self._client.generate(
            program, prompt, max_tokens=len(replay), replay=replay, ignore_eos=True, group=group
        )
        self._take(prompt, done, step, why)
        return done.answer

    def _new_of(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
        """The messages behind the last answer, if all before it is as it was; else none."""
        known = len(self._messages)
        if not known or len(messages) < known + 2 or messages[:known] != self._messages or tools != self._tools:
            return []
        said, new = messages[known], messages[known + 1 :]
        content = said.get("content") or ""
        # Calls that were taken out of the text stand beside it.
        kept = content == self._said or ("tool_calls" in said and self._said.startswith(content))
        if said["role"] != "assistant" or not kept or any(message["role"] == "assistant" for message in new):
            return []
        return new

    def _take(self, prompt: list[int], done: Generation, step: int, why: str) -> None:
        """Store a call that has ended. What may follow it is known when its text is."""
        self._messages = []
        segment = self.segments[-1] if self.segments else None
        if segment is None or prompt[: len(segment.ids)] != segment.ids:
            if segment is not None:
                self.breaks.append(why)
            segment = Segment(logprobs=[])
            self.segments.append(segment)
        between = prompt[len(segment.ids) :]
        segment.ids += [*between, *done.ids]
        segment.mask += [0] * len(between) + [1] * len(done.ids)
        segment.versions += [NOT_THE_MODEL] * len(between) + done.versions
        if segment.logprobs is not None and done.logprobs is not None:
            segment.logprobs += [0.0] * len(between) + done.logprobs
        else:
            segment.logprobs = None
        reason, digest = done.answer.finish_reason, digest_of(done.prompt_ids)
        segment.turns.append(Turn(step, len(prompt), len(segment.ids), done.cached_tokens, reason, digest))
