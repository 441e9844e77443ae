"""What the served model's chat template makes of messages, in token ids, through the engine's own ``/tokenize``.

A conversation that goes on needs the ids of its new messages only. They are found by rendering a fixed base (one
question, one answer) with the new messages behind it, and taking what follows the token that ends the answer: so
neither the past nor anything that the model said is ever tokenised again, and a template that drops earlier reasoning
has nothing to drop. Tools are told when a conversation begins, and not again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thunderctl.errors import DaemonError

Messages = Sequence[dict[str, Any]]
Render = Callable[[Messages, list[dict[str, Any]] | None, bool], Awaitable[list[int]]]
"""Ids of messages, with tools or ``None``; ``True``: and what makes the model answer behind them."""

QUESTION = {"role": "user", "content": "?"}
ANSWERS = [{"role": "assistant", "content": content} for content in "01"]

LAST_IDS = 4
"""So many ids, or more, stand in the usual templates between the last message and the answer, always the same."""


class Refused(DaemonError):
    """A request that is wrong in itself (HTTP 400): a chat template takes no such messages, say."""


class NotAnExtension(Exception):
    """The template does not let messages be put behind an answer. The message says why."""


@dataclass(frozen=True, slots=True)
class _Base:
    """What the fixed base becomes."""

    question: list[int]
    end: int
    """The id that ends an answer."""
    closing: list[int]
    """All that follows an answer's text: ``end``, and in many templates a line break."""

    def check(self, rendered: list[int], *, whole: bool) -> int:
        """Where in ``rendered`` its answer ends. ``whole``: nothing follows the answer; then it must end only there."""
        begin = len(self.question)
        if rendered[:begin] != self.question:
            raise NotAnExtension("a question is written otherwise when an answer follows it")
        try:
            place = rendered.index(self.end, begin)
        except ValueError:
            raise NotAnExtension("an answer does not end with the same token wherever it stands") from None
        if whole and rendered[place:] != self.closing:
            raise NotAnExtension("the token that ends an answer may also stand within it")
        return place


class ChatTemplate:
    """The template of one served model. Asked for at first use, and known from then on."""

    def __init__(self, render: Render, read: Callable[[list[int]], Awaitable[str]]) -> None:
        self._render = render
        self._read = read
        self._last_words: dict[tuple[int, ...], str] = {}
        self._bases: dict[bool, _Base | NotAnExtension] = {}
        self._asking = asyncio.Lock()

    async def opening(self, messages: Messages, tools: list[dict[str, Any]] | None) -> list[int]:
        """Ids of a whole conversation up to where the model is to answer."""
        return await self._render(messages, tools, True)

    async def last_words(self, prompt: list[int]) -> str:
        """The text of a prompt's last ids, which the template writes there to make the model answer."""
        ids = tuple(prompt[-LAST_IDS:])
        if ids not in self._last_words:
            self._last_words[ids] = await self._read(list(ids))
        return self._last_words[ids]

    async def between(self, last: int, messages: Messages) -> list[int]:
        """Ids between an answer whose last id is ``last`` and the next one: ``messages``, and before them the end of
        the turn if the model did not say it.

        Raises:
            NotAnExtension: this template cannot do that.
        """
        called = [message.get("tool_call_id") or "call_0" for message in messages if message["role"] == "tool"]
        base = await self._base(called=bool(called))
        try:
            rendered = await self._render([QUESTION, _answer(called), *messages], None, True)
        except Refused as refusal:
            raise NotAnExtension(refusal.message) from None
        try:
            end = base.check(rendered, whole=False)
        except NotAnExtension:  # some templates say the date: the base is looked at once more
            self._bases.clear()
            base = await self._base(called=bool(called))
            end = base.check(rendered, whole=False)
        return rendered[end + (last == base.end) :]

    async def _base(self, *, called: bool) -> _Base:
        async with self._asking:
            for kind, ask in ((False, self._plain), (True, self._with_a_call)):
                if kind in self._bases or kind > called:
                    continue
                try:
                    self._bases[kind] = await ask()
                except (Refused, NotAnExtension) as reason:
                    self._bases[kind] = NotAnExtension(*reason.args)
            found = self._bases[called]
        if isinstance(found, NotAnExtension):
            raise found
        return found

    async def _plain(self) -> _Base:
        question = await self._render([QUESTION], None, False)
        one, other = [await self._render([QUESTION, answer], None, False) for answer in ANSWERS]
        same = 0
        while same < min(len(one), len(other)) and one[-1 - same] == other[-1 - same]:
            same += 1
        if not same:
            raise NotAnExtension("nothing ends an answer")
        closing = one[len(one) - same :]
        base = _Base(question, closing[0], closing)
        base.check(one, whole=True)
        return base

    async def _with_a_call(self) -> _Base:
        """The same base, if an answer that calls a tool ends as others do."""
        base = self._bases[False]
        if isinstance(base, NotAnExtension):
            raise base
        base.check(await self._render([QUESTION, _answer(["call_0"])], None, False), whole=True)
        return base


def _answer(called: list[str]) -> dict[str, Any]:
    """The base's answer; where tool results are to follow, it called as many tools (many templates insist on that)."""
    if not called:
        return ANSWERS[0]
    function = {"name": "tool", "arguments": "{}"}
    return ANSWERS[0] | {"tool_calls": [{"id": name, "type": "function", "function": function} for name in called]}
