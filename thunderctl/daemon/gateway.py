"""The HTTP door of agents: OpenAI-compatible paths, each call held until the scheduler admits it.

A call ends in exactly one outcome, whatever happens to the client, the worker or the daemon in the meantime; that is
what the shape of ``_scheduled`` is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from thunderctl.core import events as ev
from thunderctl.core.effects import Reject
from thunderctl.daemon.identity import BadBody, CallBody, ask_for_usage, group_of, parse_body, program_of
from thunderctl.daemon.shell import HeldCall, Shell
from thunderctl.daemon.upstream import (
    CONNECTION_FAILED,
    Upstreams,
    Usage,
    UsageFilter,
    request_headers,
    response_headers,
    usage_of,
)
from thunderctl.profile import GatewaySpec

SCHEDULED = ("/v1/chat/completions", "/v1/completions")
"""Paths whose calls are steps of a program."""
PROGRESS_EVERY = 32
"""Streamed tokens between two progress events."""


def error(status: int, message: str, kind: str, retry_after_s: float | None = None) -> web.Response:
    """An error in OpenAI's shape, with Retry-After where coming back makes sense."""
    headers = {} if not retry_after_s else {"Retry-After": str(max(1, round(retry_after_s)))}
    body = {"error": {"message": message, "type": kind, "code": status}}
    return web.json_response(body, status=status, headers=headers)


@dataclass(slots=True)
class _Forward:
    """One request on its way to a worker."""

    path: str
    body: bytes
    size: int
    """Bytes of the body as the client sent it."""
    keep_usage: bool
    headers: aiohttp.typedefs.LooseHeaders


class Gateway:
    """Handlers of the ``/v1`` paths."""

    def __init__(self, spec: GatewaySpec, shell: Shell, upstreams: Upstreams, *, own_key: bool) -> None:
        self._spec = spec
        self._shell = shell
        self._upstreams = upstreams
        self._own_key = own_key
        self._turn = 0
        self.draining = False

    def routes(self) -> list[web.RouteDef]:
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.completion
        return [*(web.post(path, handler) for path in SCHEDULED), web.get("/v1/models", self.models)]

    async def models(self, request: web.Request) -> web.StreamResponse:
        """The model list, from any worker that is up."""
        for name in self._upstreams.names:
            upstream = self._upstreams.get(name)
            if upstream is None:
                continue
            url, session = upstream
            try:
                async with session.get(url + "/v1/models") as answer:
                    return web.Response(
                        body=await answer.read(), status=answer.status, headers=response_headers(answer.headers)
                    )
            except CONNECTION_FAILED:
                continue
        return error(503, "no worker is up", "unavailable", 5)

    async def completion(self, request: web.Request) -> web.StreamResponse:
        """A chat or text completion, streamed or not."""
        if self.draining:
            return error(503, "the daemon is stopping", "unavailable", 5)
        raw = await request.read()
        try:
            body = parse_body(raw)
            program = program_of(body, request.headers)
            sent, asked = ask_for_usage(raw, body)
        except BadBody as bad:
            return error(400, str(bad), "invalid_request_error")
        forward = _Forward(request.path, sent, len(raw), asked, request_headers(request.headers, own_key=self._own_key))
        if program is None:
            return await self._unscheduled(request, forward)
        return await self._scheduled(request, forward, body, program)

    async def _scheduled(
        self, request: web.Request, forward: _Forward, body: CallBody, program: str
    ) -> web.StreamResponse:
        call = self._shell.arrive(program, forward.size, group_of(body))
        ended = False
        failure: BaseException | None = None
        try:
            for attempt in range(self._spec.retries + 1):
                admitted = await call.admission
                if isinstance(admitted, Reject):
                    ended = True  # the scheduler has forgotten it already
                    return error(admitted.status, admitted.reason, "unavailable", admitted.retry_after_s)
                extra = {
                    "X-Thunderctl-Worker": admitted.worker,
                    "X-Thunderctl-Held-Ms": f"{admitted.waited_s * self._shell.time_scale * 1000:.1f}",
                }
                upstream = self._upstreams.get(admitted.worker)
                try:
                    if upstream is None:
                        raise aiohttp.ClientConnectionError(f"{admitted.worker} is gone")
                    url, session = upstream
                    answer = await session.post(url + forward.path, data=forward.body, headers=forward.headers)
                except CONNECTION_FAILED as refused:
                    failure = refused
                    if attempt == self._spec.retries:
                        break
                    self._shell.bounce(call)
                    await asyncio.sleep(min(2.0, 0.1 * 2**attempt))
                    continue
                response, usage = await self._relay(request, forward, answer, extra, call)
                ended = True
                if usage is None:
                    self._shell.end_failed(call)
                else:
                    self._shell.end_finished(
                        call, forward.size, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens or 0
                    )
                return response
            ended = True
            self._shell.end_failed(call)
            attempts = self._spec.retries + 1
            return error(502, f"no worker answered in {attempts} attempts: {failure}", "bad_gateway", 5)
        finally:
            if not ended:  # cancelled: the client went away, or the answer broke off
                self._shell.end_cancelled(call)

    async def _unscheduled(self, request: web.Request, forward: _Forward) -> web.StreamResponse:
        """A request that names no program: to the workers in turn, past the scheduler."""
        self._shell.tally.unscheduled += 1
        for _ in self._upstreams.names:
            self._turn += 1
            names = self._upstreams.names
            upstream = self._upstreams.get(names[self._turn % len(names)]) if names else None
            if upstream is None:
                continue
            try:
                answer = await upstream[1].post(upstream[0] + forward.path, data=forward.body, headers=forward.headers)
            except CONNECTION_FAILED:
                continue
            response, _usage = await self._relay(request, forward, answer, {}, None)
            return response
        return error(503, "no worker is up", "unavailable", 5)

    async def _relay(
        self,
        request: web.Request,
        forward: _Forward,
        answer: aiohttp.ClientResponse,
        extra: dict[str, str],
        call: HeldCall | None,
    ) -> tuple[web.StreamResponse, Usage | None]:
        """Pass the worker's answer on, byte for byte. Returns its usage, ``None`` if it was no complete answer."""
        headers = response_headers(answer.headers)
        headers.update(extra)
        try:
            if answer.content_type != "text/event-stream":
                try:
                    data = await answer.read()
                except CONNECTION_FAILED:
                    return error(502, "the worker broke off its answer", "bad_gateway", 5), None
                usage = usage_of(data) if answer.status == 200 else None
                return web.Response(body=data, status=answer.status, headers=headers), usage
            return await self._relay_stream(request, forward, answer, headers, call)
        finally:
            if answer.content.at_eof():
                answer.release()
            else:
                answer.close()  # hanging up is what makes the engine abort the request

    async def _relay_stream(
        self,
        request: web.Request,
        forward: _Forward,
        answer: aiohttp.ClientResponse,
        headers: aiohttp.typedefs.LooseHeaders,
        call: HeldCall | None,
    ) -> tuple[web.StreamResponse, Usage | None]:
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        events = UsageFilter(keep=forward.keep_usage)
        reported = 0
        try:
            async for chunk in answer.content.iter_any():
                if call is not None and events.tokens == 0:
                    self._shell.submit(ev.FirstToken(call.id))
                passed = events.feed(chunk)
                if passed:
                    await response.write(passed)
                if call is not None and events.tokens - reported >= PROGRESS_EVERY:
                    reported = events.tokens
                    self._shell.submit(ev.CallProgress(call.id, reported))
        except CONNECTION_FAILED:
            # Half an answer is out already: cut the connection, so that nobody takes it for a whole one.
            if request.transport is not None:
                request.transport.close()
            return response, None
        if events.rest():
            await response.write(events.rest())
        await response.write_eof()
        return response, events.usage
