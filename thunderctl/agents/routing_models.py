"""The models behind the roles of a routing workload: this cluster's engine, or servers of others.

Counts each role's calls and tokens and what they cost. In replay nobody but this cluster's engine is asked.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
import msgspec

from thunderctl.agents.client import Answer, DaemonClient
from thunderctl.errors import PreflightError, ThunderError
from thunderctl.profile import RoleModelSpec

ATTEMPTS = 4
"""Of one call to an external model: further ones after 408, 429, 5xx and lost connections, 1, 2 and 4 seconds later or
when ``Retry-After`` says."""
LONGEST_PAUSE_S = 60.0
_AGAIN = (408, 429, 500, 502, 503, 504)

_turns: WeakKeyDictionary[DaemonClient, dict[str, asyncio.Semaphore]] = WeakKeyDictionary()
"""The agents of a run share one daemon client, and so each role's places."""


def check_models(models: Mapping[str, RoleModelSpec]) -> None:
    """``PreflightError`` for the first key that is not in the environment. For live runs, before anything starts."""
    for role, spec in models.items():
        if spec.api_key_env and not os.environ.get(spec.api_key_env):
            raise PreflightError(
                f"profile key models.{role}.api_key_env: the environment variable {spec.api_key_env} is not set",
                hint="export it in the shell that starts the run; it is written nowhere",
            )


@dataclass(slots=True)
class Tally:
    """What one role came to."""

    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    answered: int = 0
    """1 for the role whose answer was handed in: with ``resolved`` it gives each model's accuracy."""

    def add(self, answer: Answer, spec: RoleModelSpec | None) -> None:
        self.calls += 1
        self.prompt_tokens += answer.prompt_tokens
        self.output_tokens += answer.output_tokens
        if spec is not None:
            dollars = answer.prompt_tokens * spec.input_usd_per_mtok + answer.output_tokens * spec.output_usd_per_mtok
            self.cost_usd += dollars / 1e6

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


class ExternalModels:
    """Calls to servers of others on behalf of one agent. Use as an async context manager."""

    def __init__(self, client: DaemonClient, models: Mapping[str, RoleModelSpec]) -> None:
        self._models = {role: spec for role, spec in models.items() if spec.base_url is not None}
        self._turns = _turns.setdefault(client, {})
        self._session: aiohttp.ClientSession | None = None

    def __contains__(self, role: str) -> bool:
        return role in self._models

    async def __aenter__(self) -> ExternalModels:
        if self._models:
            # A session of its own: the daemon's token must not travel to servers of others.
            self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, role: str, messages: list[dict[str, Any]], max_tokens: int) -> Answer:
        """The answer of the model behind ``role``; ``ThunderError`` when it cannot be had."""
        spec = self._models[role]
        turn = self._turns.setdefault(role, asyncio.Semaphore(spec.concurrency))
        body = {"model": spec.model, "messages": messages, "max_tokens": spec.max_tokens or max_tokens}
        began = time.monotonic()
        async with turn:
            said, attempts = await self._send(role, spec, msgspec.json.encode(body))
        try:
            choice, usage = said["choices"][0], said.get("usage") or {}
            details = usage.get("prompt_tokens_details") or {}
            return Answer(
                content=choice["message"]["content"] or "",
                finish_reason=choice.get("finish_reason") or "",
                prompt_tokens=usage.get("prompt_tokens") or 0,
                cached_tokens=details.get("cached_tokens") or 0,
                output_tokens=usage.get("completion_tokens") or 0,
                latency_s=time.monotonic() - began,
                held_s=0.0,
                worker="",
                attempts=attempts,
            )
        except (KeyError, IndexError, TypeError, AttributeError):
            raise ThunderError(f"models.{role}: {spec.base_url} sent no answer in OpenAI's form") from None

    async def _send(self, role: str, spec: RoleModelSpec, body: bytes) -> tuple[Any, int]:
        assert self._session is not None, "use `async with`"  # noqa: S101
        url = f"{(spec.base_url or '').rstrip('/')}/chat/completions"
        headers = {"Content-Type": "application/json"}
        if spec.api_key_env:
            headers["Authorization"] = f"Bearer {os.environ.get(spec.api_key_env, '')}"
        timeout = aiohttp.ClientTimeout(total=spec.timeout_s)
        attempt = 0
        while True:
            attempt += 1
            wait = 2.0 ** (attempt - 1)
            try:
                async with self._session.post(url, data=body, headers=headers, timeout=timeout) as answer:
                    text = await answer.read()
                    if answer.status < 400:
                        return msgspec.json.decode(text), attempt
                    # What it says may be long, and may repeat the question: its status is enough.
                    failure = f"HTTP {answer.status}"
                    again = answer.status in _AGAIN
                    wait = _retry_after(answer.headers.get("Retry-After")) or wait
            except TimeoutError:
                failure, again = f"no answer in {spec.timeout_s:g} s", False
            except aiohttp.ClientError as lost:
                failure, again = type(lost).__name__, True
            except msgspec.DecodeError:
                failure, again = "an answer that is not JSON", False
            if not again or attempt == ATTEMPTS:
                raise ThunderError(f"models.{role}: {url}: {failure} (attempt {attempt})")
            await asyncio.sleep(min(wait, LONGEST_PAUSE_S))


def _retry_after(said: str | None) -> float:
    try:
        return max(0.0, float(said or 0))
    except ValueError:  # a date: the usual pause will do
        return 0.0
