"""An engine in miniature that speaks in token ids: ``/tokenize``, ``/detokenize`` and ``/v1/completions``.

Its tokens are bytes, some pairs of bytes, and special marks. Text is tokenised with as many pairs as possible; what it
says is spelt as the test likes. So an answer's text, tokenised again, gives other ids than those that were said.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from thunderctl.agents.client import DaemonClient

SPECIAL = {"<|im_start|>": 256, "<|im_sep|>": 257, "<|im_end|>": 258, "<think>": 259}
END = SPECIAL["<|im_end|>"]
PAIRS = {pair: 300 + number for number, pair in enumerate([b"ab", b"\n\n", b"th", b"in", b"  ", b'":'])}
BYTES = {**{value: key.encode() for key, value in SPECIAL.items()}, **{value: key for key, value in PAIRS.items()}}
Template = Callable[[list[dict[str, Any]], list[Any] | None, bool], str]


def encode(text: str) -> list[int]:
    """As the tokenizer does it."""
    ids: list[int] = []
    for part in re.split(f"({'|'.join(map(re.escape, SPECIAL))})", text):
        if part in SPECIAL:
            ids.append(SPECIAL[part])
            continue
        data = part.encode()
        while data:
            pair = PAIRS.get(data[:2])
            ids.append(data[0] if pair is None else pair)
            data = data[1 if pair is None else 2 :]
    return ids


def spell(text: str) -> list[int]:
    """As the model says it: byte by byte."""
    return list(text.encode())


def decode(ids: list[int]) -> str:
    return b"".join(BYTES.get(each) or bytes([each % 256]) for each in ids).decode(errors="replace")


def _content(message: dict[str, Any]) -> str:
    calls = message.get("tool_calls") or []
    return (message["content"] or "") + "".join(f"<call {each['function']['arguments']}>" for each in calls)


def chat(messages: list[dict[str, Any]], tools: list[Any] | None, answering: bool) -> str:
    """The usual kind of template: marks around each message, a line break behind it."""
    said = "".join(f"<|im_start|>{m['role']}<|im_sep|>{_content(m)}<|im_end|>\n" for m in messages)
    return (f"tools: {tools}\n" if tools else "") + said + ("<|im_start|>assistant<|im_sep|>" if answering else "")


def forgetful(messages: list[dict[str, Any]], tools: list[Any] | None, answering: bool) -> str:
    """Leaves the reasoning of all answers but the last out, and puts an empty one where the last has none."""
    last = max((number for number, m in enumerate(messages) if m["role"] == "user"), default=0)
    shown = []
    for number, message in enumerate(messages):
        content = message["content"]
        if message["role"] == "assistant":
            thought, mark, rest = content.rpartition("</think>")
            content = content if number > last and mark else rest
            content = f"<think></think>{content}" if number > last and not mark else content
        shown.append(message | {"content": content})
    return chat(shown, tools, answering)


def flat(messages: list[dict[str, Any]], tools: list[Any] | None, answering: bool) -> str:
    """Nothing but line breaks, which answers may hold as well."""
    return "".join(f"{m['role']}:\n{m['content']}\n" for m in messages) + ("assistant:\n" if answering else "")


def counting(messages: list[dict[str, Any]], tools: list[Any] | None, answering: bool) -> str:
    """Says at the top how many messages there are."""
    return f"{len(messages)}:" + chat(messages, tools, answering)


@dataclass
class TokenEngine:
    """``answers``: ids that it says where nothing is forced, in order, each with or without the end of its turn; a
    number is a refusal with this status. ``aborts``: after how many tokens the next requests are aborted (``None``: not
    at all), whereupon the weights are new."""

    answers: list[list[int] | int] = field(default_factory=list)
    aborts: list[int | None] = field(default_factory=list)
    template: Template = chat
    kind: str = "cpu"
    version: int = 0
    max_model_len: int = 1_000_000
    lies: bool = False
    """Says that it computed on other ids than it was sent."""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of ``/v1/completions``."""
    said: list[list[int]] = field(default_factory=list)
    """Ids that it answered them with."""
    made: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Version and log-probability of the tokens that it said last, by their place in the whole sequence."""
    tokenised: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of ``/tokenize``."""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/completions", self.complete),
            web.post("/tokenize", self.tokenize),
            web.post("/detokenize", self.detokenize),
            web.get("/health", self.health),
        ]

    def logprob(self, place: int, token: int) -> float:
        """Of ``token`` at ``place`` of the whole sequence, under the weights that it is said with."""
        return -((place * 31 + token * 7 + self.version) % 97 + 1) / 16

    async def complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.calls.append(body)
        if "logprobs" in body and self.kind == "emulated":
            return web.json_response({"error": {"message": "logprobs cannot be had"}}, status=400)
        prompt: list[int] = body["prompt"]
        wanted = self._wanted(body)
        if isinstance(wanted, int):
            return web.json_response({"error": {"message": "no"}}, status=wanted)
        ids, reason = wanted[: body["max_tokens"]], "stop"
        if len(ids) == body["max_tokens"] and (not ids or ids[-1] != END or body["ignore_eos"]):
            reason = "length"
        cut = self.aborts.pop(0) if self.aborts else None
        if cut is not None and cut < len(ids):
            if "vllm_xargs" not in body:
                self.answers.insert(0, wanted[cut:])
            ids, reason = ids[:cut], "abort"
        self.said.append(ids)
        for place, token in enumerate(ids, len(prompt)):
            self.made[place] = (self.version, self.logprob(place, token))
        choice: dict[str, Any] = {
            "text": decode(ids[:-1] if reason == "stop" else ids),
            "finish_reason": reason,
            "token_ids": ids,
            "prompt_token_ids": [0, *prompt[1:]] if self.lies else prompt,
        }
        if "logprobs" in body:
            choice["logprobs"] = {"token_logprobs": [self.made[len(prompt) + n][1] for n in range(len(ids))]}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(ids)}
        details = {"cached_tokens": max(0, len(prompt) - 1) // 16 * 16}
        headers = {"X-Thunderctl-Weights": str(self.version)}
        self.version += reason == "abort"
        answer = {"choices": [choice], "usage": {**usage, "prompt_tokens_details": details}}
        return web.json_response(answer, headers=headers)

    def _wanted(self, body: dict[str, Any]) -> list[int] | int:
        if "vllm_xargs" not in body:
            return self.answers.pop(0)
        forced = body["vllm_xargs"]["replay"]
        ids = encode(forced) if isinstance(forced, str) else list(forced)
        return ids if body["ignore_eos"] else [*ids, END]

    async def tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.tokenised.append(body)
        if "prompt" in body:
            return web.json_response({"tokens": encode(body["prompt"])})
        if any("refused" in m["content"] for m in body["messages"]):
            return web.json_response({"error": {"message": "this template takes no such message"}}, status=400)
        text = self.template(body["messages"], body.get("tools"), body["add_generation_prompt"])
        return web.json_response({"tokens": encode(text), "max_model_len": self.max_model_len})

    async def detokenize(self, request: web.Request) -> web.Response:
        return web.json_response({"prompt": decode((await request.json())["tokens"])})

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"engine": self.kind})


@asynccontextmanager
async def a_token_engine(engine: TokenEngine) -> AsyncIterator[DaemonClient]:
    """A client of it; programs' tools and ends are taken note of by nobody."""

    async def nothing(request: web.Request) -> web.Response:
        return web.json_response({})

    app = web.Application(client_max_size=2**24)
    app.add_routes(engine.routes())
    app.add_routes([web.post("/programs/tool", nothing), web.post("/programs/release", nothing)])
    server = TestServer(app)
    await server.start_server()
    try:
        async with DaemonClient(str(server.make_url("")), model="small") as client:
            yield client
    finally:
        await server.close()
