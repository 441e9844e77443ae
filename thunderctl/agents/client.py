"""The daemon's HTTP API as an agent sees it: model calls and tool environments, with the retries that it promises.

One ``DaemonClient`` serves all agents of a process: 256 agents share its connections.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import random
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import aiohttp
import msgspec

from thunderctl.agents.chat_template import ChatTemplate, Messages, Refused
from thunderctl.agents.generation import Generation, Pieces
from thunderctl.errors import DaemonError, EnvironmentFailure

PATIENCE_S = 120.0
"""How long a call is tried again after a lost connection or a 503: a daemon that was killed and started again has its
workers back within seconds, and fresh ones within a minute or two. The pause between attempts doubles, with jitter."""
LONGEST_PAUSE_S = 4.0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A structured call in an answer. ``arguments`` is JSON as the engine or the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One finished model call. Seconds are wall-clock; ``latency_s`` includes ``held_s``."""

    content: str
    """All that the model said: calls that the engine took out of the text are put back, as Hermes writes them."""
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    latency_s: float
    held_s: float
    worker: str
    attempts: int
    tool_calls: tuple[ToolCall, ...] = ()
    """Those that the engine found."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A tool environment. ``prepared_s``: how long preparing it took, as the daemon saw it; 0 if nobody waited."""

    id: str
    prepared_s: float


@dataclass(frozen=True, slots=True)
class ToolResult:
    output: str
    returncode: int
    duration_s: float
    timed_out: bool
    truncated_bytes: int
    waited_s: float = 0.0
    """Seconds until the environment was ready; ``duration_s`` begins after them."""
    prepared_s: float = 0.0
    """How long preparing the environment took, whoever waited for it."""


class DaemonClient:
    """Calls to one daemon. Use as an async context manager."""

    def __init__(
        self, url: str, *, token: str = "", api_key: str = "", model: str, patience_s: float = PATIENCE_S
    ) -> None:
        self.url = url.rstrip("/")
        self.patience_s = patience_s
        self.model = model
        self._headers = {"X-Thunderctl-Token": token} if token else {}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._session: aiohttp.ClientSession | None = None
        self._gives_logprobs: bool | None = None
        self.max_model_len: int | None = None
        """Tokens of the longest context, as the engine said when it was last asked to tokenise."""
        self.template = ChatTemplate(self.tokenize, self.detokenize)
        """The served model's chat template, for calls in token ids."""

    async def __aenter__(self) -> DaemonClient:
        # A call may be held for as long as the scheduler likes, so there is no total time-out.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            headers=self._headers,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def _send(
        self, method: str, path: str, body: object = None, *, repeatable: bool = True
    ) -> tuple[Any, Mapping[str, str], int]:
        """JSON in, JSON out; returns (answer, headers, attempts). ``DaemonError`` when it is refused for good.

        ``repeatable``: it may be sent again although it may have been carried out: the daemon knows it by its name
        (``X-Thunderctl-Call``), or twice is as good as once.
        """
        assert self._session is not None, "use `async with`"  # noqa: S101
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json", "X-Thunderctl-Call": secrets.token_hex(8)}
        failure = ""
        give_up = time.monotonic() + self.patience_s
        for attempt in itertools.count(1):
            wait = min(LONGEST_PAUSE_S, 0.25 * 2 ** min(attempt - 1, 8)) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
            try:
                async with self._session.request(method, self.url + path, data=data, headers=headers) as answer:
                    text = await answer.read()
                    if answer.status < 400:
                        return msgspec.json.decode(text) if text else None, answer.headers, attempt
                    failure = _reason(text) or f"HTTP {answer.status}"
                    if answer.status == 409 and path.startswith("/environments"):
                        raise EnvironmentFailure(failure)
                    if answer.status != 503:
                        kind = Refused if answer.status == 400 else DaemonError
                        raise kind(f"{method} {path}: {failure} (HTTP {answer.status})")
                    wait = max(wait, float(answer.headers.get("Retry-After", 0)))
            except aiohttp.ClientConnectorError as refused:  # it was not sent
                failure = f"the daemon at {self.url} does not answer ({refused})"
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as lost:
                failure = f"the daemon at {self.url} broke off ({lost})"
                if not repeatable:
                    break
            if time.monotonic() + wait > give_up:
                break
            await asyncio.sleep(wait)
        raise DaemonError(f"{method} {path}: {failure}", hint="`thunderctl status` and `thunderctl logs` tell more")

    # ------------------------------------------------------------------ model calls

    async def chat(
        self,
        program: str,
        messages: list[dict[str, Any]],
        *,
        max_tokens: int,
        replay: str | None = None,
        temperature: float | None = None,
        group: str | None = None,
        tools: list[dict[str, Any]] | None = None,
        sampling: Mapping[str, float] | None = None,
    ) -> Answer:
        """One step's model call. ``replay``: the recorded answer that the engine is forced to give. ``tools``: OpenAI
        function schemas; the engine then looks for calls in the answer. ``sampling``: ``temperature``, ``top_p`` …"""
        body: dict[str, object] = {
            "model": self.model, "messages": messages, "max_tokens": max_tokens, "program_id": program,
            **(sampling or {}),
        }  # fmt: skip
        if group is not None:
            body["group_id"] = group
        if tools is not None:
            body["tools"] = tools
        if temperature is not None:
            body["temperature"] = temperature
        if replay is not None:
            body["vllm_xargs"] = {"replay": replay}
        return (await self._call("/v1/chat/completions", body))[0]

    async def complete(self, program: str, prompt: list[int], replay: list[int], *, group: str | None = None) -> Answer:
        """One step's model call in token ids: ``prompt`` goes in, and the engine is forced to emit ``replay``."""
        body: dict[str, object] = {
            "model": self.model, "prompt": prompt, "max_tokens": len(replay), "ignore_eos": True,
            "vllm_xargs": {"replay": replay}, "program_id": program,
        }  # fmt: skip
        if group is not None:
            body["group_id"] = group
        return (await self._call("/v1/completions", body))[0]

    async def generate(
        self,
        program: str,
        prompt: list[int],
        *,
        max_tokens: int,
        replay: str | list[int] | None = None,
        ignore_eos: bool = False,
        group: str | None = None,
        sampling: Mapping[str, float] | None = None,
    ) -> Generation:
        """One step's model call in token ids, with everything that a trainer wants to know of them.

        A call that the engine aborts, since the weights change, is sent again with what came of it, until it ends
        otherwise. ``DaemonError`` if the engine computed on other ids than it was sent.
        """
        if self._gives_logprobs is None:
            self._gives_logprobs = (await self.health() or {}).get("engine") != "emulated"
        common: dict[str, object] = {
            "model": self.model, "program_id": program, "ignore_eos": ignore_eos, "skip_special_tokens": False,
            **(sampling or {}),
        }  # fmt: skip
        if group is not None:
            common["group_id"] = group
        pieces = Pieces(prompt, max_tokens, replay, logprobs=self._gives_logprobs)
        while not pieces.ended:
            if pieces.ids and isinstance(pieces.replay, str):
                text = {"model": self.model, "prompt": pieces.replay, "add_special_tokens": False}
                pieces.replay = (await self._send("POST", "/tokenize", text))[0]["tokens"]
            pieces.add(*await self._call("/v1/completions", common | pieces.body()))
        return pieces.whole(None if pieces.said is None else await self.detokenize(pieces.said))

    async def tokenize(self, messages: Messages, tools: list[dict[str, Any]] | None, answering: bool) -> list[int]:
        """Ids that the engine's chat template makes of ``messages``. ``answering``: up to where the model goes on."""
        body = {"model": self.model, "messages": messages, "add_generation_prompt": answering}
        body |= {} if tools is None else {"tools": tools}
        said, _, _ = await self._send("POST", "/tokenize", body)
        self.max_model_len = said.get("max_model_len")
        return said["tokens"]  # type: ignore[no-any-return]

    async def detokenize(self, ids: list[int]) -> str:
        """The text of ``ids``, special tokens and all."""
        return (await self._send("POST", "/detokenize", {"model": self.model, "tokens": ids}))[0]["prompt"]  # type: ignore[no-any-return]

    async def _call(self, path: str, body: dict[str, object]) -> tuple[Answer, dict[str, Any], Mapping[str, str]]:
        """The answer, its one choice as it came, and the headers that came with it."""
        began = time.monotonic()
        answer, headers, attempts = await self._send("POST", path, body)
        choice, usage = answer["choices"][0], answer["usage"]
        details = usage.get("prompt_tokens_details") or {}
        said = (choice["message"].get("content") if "message" in choice else choice.get("text")) or ""
        calls = tool_calls(choice.get("message") or {})
        told = Answer(
            content=said + "".join(written(call) for call in calls),
            tool_calls=calls,
            finish_reason=choice.get("finish_reason") or "",
            prompt_tokens=usage["prompt_tokens"],
            cached_tokens=details.get("cached_tokens") or 0,
            output_tokens=usage["completion_tokens"],
            latency_s=time.monotonic() - began,
            held_s=float(headers.get("X-Thunderctl-Held-Ms", 0)) / 1000,
            worker=headers.get("X-Thunderctl-Worker", ""),
            attempts=attempts,
        )
        return told, choice, headers

    async def tool(self, program: str, state: Literal["started", "finished"], tool: str = "") -> None:
        """A tool of the program started or finished somewhere outside the daemon's environments."""
        await self._send("POST", "/programs/tool", {"program_id": program, "state": state, "tool": tool})

    async def release(self, program: str) -> None:
        """The program ended: its tokens, its place and its environments can go."""
        await self._send("POST", "/programs/release", {"program_id": program})

    # ------------------------------------------------------------------ tool environments

    async def environment(
        self,
        program: str,
        run: str,
        *,
        image: str | None = None,
        files: Path | None = None,
        setup: list[str] | None = None,
        env: dict[str, str] | None = None,
        wait: bool = True,
    ) -> Lease:
        """An environment for ``program``. Without ``wait`` it is only announced: the daemon prepares it in time for the
        program's first place, and the first command waits for whatever is left of that."""
        body = {
            "program": program, "run": run, "image": image, "files": None if files is None else str(files),
            "setup": setup or [], "env": env or {}, "wait": wait,
        }  # fmt: skip
        answer, _, _ = await self._send("POST", "/environments", body)
        return Lease(answer["id"], answer["prepared_s"])

    async def keep_warm(
        self, run: str, count: int, *, image: str | None = None, env: dict[str, str] | None = None
    ) -> None:
        """Have ``count`` environments of this kind ready at any time, until :meth:`run_over`."""
        await self._send("POST", "/environments/warm", {"run": run, "count": count, "image": image, "env": env or {}})

    async def run_over(self, run: str) -> None:
        """The run has ended: nothing more is kept ready for it, and images that nobody needs may go."""
        await self._send("POST", "/runs/over", {"run": run})

    async def execute(
        self, lease: Lease, command: str, timeout_s: float | None = None, *, background: bool = False
    ) -> ToolResult:
        """Run a command in the environment. ``background``: it serves others and is no tool that starts and ends."""
        body = {"command": command, "timeout_s": timeout_s, "background": background}
        answer, _, _ = await self._send("POST", f"/environments/{lease.id}/exec", body, repeatable=False)
        return ToolResult(**answer)

    async def put_files(self, lease: Lease, files: dict[str, bytes]) -> None:
        encoded = {path: base64.b64encode(data).decode() for path, data in files.items()}
        await self._send("PUT", f"/environments/{lease.id}/files", {"files": encoded})

    async def give_back(self, lease: Lease, why: str = "") -> None:
        """``why``: what whoever still uses it is told."""
        await self._send("DELETE", f"/environments/{lease.id}" + (f"?why={quote(why)}" if why else ""))

    # ------------------------------------------------------------------ what a run stores

    async def health(self) -> dict[str, Any]:
        return (await self._send("GET", "/health"))[0]  # type: ignore[no-any-return]

    async def programs(self) -> dict[str, dict[str, Any]]:
        return (await self._send("GET", "/programs"))[0]  # type: ignore[no-any-return]

    async def program(self, name: str) -> dict[str, Any]:
        """One program with its timeline; ``DaemonError`` if the daemon knows none of that name."""
        return (await self._send("GET", f"/programs/{quote(name)}"))[0]  # type: ignore[no-any-return]

    async def decisions(self, since: int) -> list[dict[str, Any]]:
        return (await self._send("GET", f"/decisions?since={since}"))[0]  # type: ignore[no-any-return]

    async def samples(self, since: int, *, now: bool = False) -> list[dict[str, Any]]:
        return (await self._send("GET", f"/samples?since={since}" + ("&now=1" if now else "")))[0]  # type: ignore[no-any-return]

    async def environments(self) -> list[dict[str, Any]]:
        """Every lease that the node ever gave, oldest first."""
        return (await self._send("GET", "/environments"))[0]  # type: ignore[no-any-return]

    async def environment_story(self, lease_id: str) -> dict[str, Any]:
        """One lease whole: what was asked for, and the states that it went through."""
        return (await self._send("GET", f"/environments/{lease_id}"))[0]  # type: ignore[no-any-return]

    async def disk(self) -> dict[str, Any]:
        return (await self._send("GET", "/disk"))[0]  # type: ignore[no-any-return]


def tool_calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """The calls of an answer's message."""
    return tuple(
        ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls") or ()
    )


def written(call: ToolCall) -> str:
    """A call as Hermes writes it, which is also how recorded answers have it."""
    return f'<tool_call>{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}</tool_call>'


def _reason(text: bytes) -> str | None:
    try:
        error = msgspec.json.decode(text)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (msgspec.MsgspecError, KeyError, TypeError):
        return text.decode(errors="replace")[:300] or None
