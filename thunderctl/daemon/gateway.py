"""The HTTP door of agents: OpenAI's and Anthropic's paths, each call held until the scheduler admits it.

A call ends in exactly one outcome, whatever happens to the client, the worker or the daemon in the meantime; that is
what the shape of ``_scheduled`` is for. A client that goes away cancels the handler at whatever it waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDict

from thunderctl.core import events as ev
from thunderctl.core.effects import Reject
from thunderctl.daemon.identity import BadBody, Identity, ask_for_usage, identify, parse_body
from thunderctl.daemon.shell import HeldCall, Shell
from thunderctl.daemon.upstream import Upstreams, request_headers, response_headers
from thunderctl.daemon.usage import StreamReader, Usage, usage_of
from thunderctl.daemon.wire import Answer, ConnectionFailed
from thunderctl.profile import GatewaySpec

COMPLETIONS = ("/v1/chat/completions", "/v1/completions")
"""Paths whose streams tell their usage only if ``stream_options`` asks for it."""
SCHEDULED = (*COMPLETIONS, "/v1/responses", "/v1/messages")
"""Paths whose calls are steps of a program."""
UNSCHEDULED = ("/v1/messages/count_tokens", "/tokenize", "/detokenize")
"""Paths that cost a worker next to nothing: passed on as they are. Every other path is refused."""
PROGRESS_EVERY = 32
"""Streamed tokens between two progress events."""
OVERLOAD_RETRY_S = 5.0
Answered = Callable[[Usage | None], None]
"""Told that an answer is over (the first time counts), with its usage, or ``None`` if it was no complete one."""
CALL_HEADER = "X-Thunderctl-Call"
"""A client's own name for a call: the same in every attempt, so that one that was answered is not counted twice."""


def error(status: int, message: str, kind: str, retry_after_s: float | None = None) -> web.Response:
    """An error in a shape that OpenAI's and Anthropic's clients read, with Retry-After where that makes sense."""
    headers = {} if not retry_after_s else {"Retry-After": str(max(1, round(retry_after_s)))}
    body = {"type": "error", "error": {"message": message, "type": kind, "code": status}}
    return web.json_response(body, status=status, headers=headers)


@dataclass(slots=True)
class _Forward:
    """One request on its way to a worker."""

    path: str
    body: bytes
    size: int
    """Bytes of the body as the client sent it."""
    keep_usage: bool
    headers: bytes


class Gateway:
    """Handlers of the paths that workers serve."""

    def __init__(self, spec: GatewaySpec, shell: Shell, upstreams: Upstreams, *, own_key: bool) -> None:
        self._spec = spec
        self._shell = shell
        self._upstreams = upstreams
        self._own_key = own_key
        self._max_held = spec.max_held
        self.draining = False

    def routes(self) -> list[web.RouteDef]:
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.call
        return [
            *(web.post(path, handler) for path in SCHEDULED),
            *(web.post(path, self.passed_on) for path in UNSCHEDULED),
            web.get("/v1/models", self.passed_on),
        ]

    async def passed_on(self, request: web.Request) -> web.StreamResponse:
        """A request that any worker can answer, and that no program waits behind."""
        if self.draining:
            return self._stopping()
        raw = await request.read()
        headers = request_headers(request.raw_headers, own_key=self._own_key)
        return await self._unscheduled(request, _Forward(request.path, raw, len(raw), True, headers))

    async def call(self, request: web.Request) -> web.StreamResponse:
        """A model call, streamed or not."""
        if self.draining:
            return self._stopping()
        raw = await request.read()
        path = request.path
        try:
            body = parse_body(raw)
            who = identify(body, request.headers)
            sent, asked = ask_for_usage(raw, body) if path in COMPLETIONS else (raw, True)
        except BadBody as bad:
            return error(400, str(bad), "invalid_request_error")
        headers = request_headers(request.raw_headers, own_key=self._own_key)
        forward = _Forward(path, sent, len(raw), asked, headers)
        if who.program is None:
            self._shell.tally.unscheduled += 1
            return await self._unscheduled(request, forward)
        if self._shell.held_calls >= self._max_held and self._shell.would_hold(who.program):
            self._shell.tally.overload += 1
            waiting = f"{self._max_held} calls wait already (gateway.max_held)"
            return error(503, waiting, "overloaded_error", OVERLOAD_RETRY_S)
        return await self._scheduled(request, forward, who, who.program, body.prompt_ids())

    def _stopping(self) -> web.Response:
        return error(503, "the daemon is stopping", "unavailable", 5)

    async def _scheduled(
        self, request: web.Request, forward: _Forward, who: Identity, program: str, prompt_ids: int | None
    ) -> web.StreamResponse:
        shell = self._shell
        call = shell.arrive(
            program, forward.size, who.group, request.headers.get(CALL_HEADER, "")[:64], prompt_ids=prompt_ids
        )
        ended = False
        failure: ConnectionFailed | None = None

        def answered(usage: Usage | None) -> None:
            nonlocal ended
            if ended:
                return
            ended = True
            if usage is None:
                shell.end_failed(call)
            else:
                shell.end_finished(call, forward.size, usage.prompt_tokens, usage.cached_tokens, usage.output_tokens)

        try:
            if who.docker_ids:
                shell.register_containers(program, who.docker_ids)
            for attempt in range(self._spec.retries + 1):
                admitted = await call.admission
                if isinstance(admitted, Reject):
                    ended = True  # the scheduler has forgotten it already
                    return error(admitted.status, admitted.reason, "unavailable", admitted.retry_after_s)
                try:
                    connections = self._upstreams.get(admitted.worker)
                    if connections is None:
                        raise ConnectionFailed(f"{admitted.worker} is gone")
                    answer = await connections.send("POST", forward.path, forward.headers, forward.body)
                except ConnectionFailed as refused:
                    failure = refused
                    if refused.begun:
                        ended = True
                        shell.end_failed(call)
                        return error(502, str(refused), "bad_gateway", 5)
                    if attempt == self._spec.retries:
                        break
                    await asyncio.sleep(min(2.0, 0.1 * 2**attempt))
                    shell.bounce(call)
                    continue
                extra = {
                    "X-Thunderctl-Worker": admitted.worker,
                    "X-Thunderctl-Held-Ms": f"{admitted.waited_s * shell.time_scale * 1000:.1f}",
                }
                return await self._relay(request, forward, answer, extra, call, answered)
            ended = True
            shell.end_failed(call)
            attempts = self._spec.retries + 1
            return error(502, f"no worker answered in {attempts} attempts: {failure}", "bad_gateway", 5)
        finally:
            if not ended:  # cancelled: the client went away
                shell.end_cancelled(call)

    async def _unscheduled(self, request: web.Request, forward: _Forward) -> web.StreamResponse:
        """To the workers in turn, past the scheduler."""
        for connections in self._upstreams.in_turn():
            try:
                answer = await connections.send(request.method, forward.path, forward.headers, forward.body)
            except ConnectionFailed as refused:
                if refused.begun:
                    return error(502, str(refused), "bad_gateway", 5)
                continue
            return await self._relay(request, forward, answer, {}, None, lambda usage: None)
        return error(503, "no worker is up", "unavailable", 5)

    async def _relay(
        self,
        request: web.Request,
        forward: _Forward,
        answer: Answer,
        extra: dict[str, str],
        call: HeldCall | None,
        answered: Answered,
    ) -> web.StreamResponse:
        """Pass the worker's answer on, byte for byte; ``answered`` is told before the last of them goes out."""
        headers = response_headers(answer)
        headers.update(extra)
        try:
            if not headers.get("Content-Type", "").startswith("text/event-stream"):
                try:
                    data = await answer.read()
                except ConnectionFailed:
                    answered(None)
                    return error(502, "the worker broke off its answer", "bad_gateway", 5)
                answered(usage_of(data) if call is not None and answer.status == 200 else None)
                return web.Response(body=data, status=answer.status, headers=headers)
            return await self._relay_stream(request, forward, answer, headers, call, answered)
        finally:
            answer.close()  # hanging up on an answer that is not complete makes the engine abort the request

    async def _relay_stream(
        self,
        request: web.Request,
        forward: _Forward,
        answer: Answer,
        headers: CIMultiDict[str],
        call: HeldCall | None,
        answered: Answered,
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        events = StreamReader(keep=forward.keep_usage)
        reported = 0
        try:
            while chunk := await answer.piece():
                passed = events.feed(chunk)
                if call is not None and not reported and events.tokens:
                    reported = events.tokens
                    self._shell.submit(ev.FirstToken(call.id))
                elif call is not None and events.tokens - reported >= PROGRESS_EVERY:
                    reported = events.tokens
                    self._shell.submit(ev.CallProgress(call.id, reported))
                if events.ended and events.usage is not None:
                    answered(events.usage)
                if passed:
                    await response.write(passed)
        except ConnectionFailed:
            # Half an answer is out already: cut the connection, so that nobody takes it for a whole one.
            if request.transport is not None:
                request.transport.close()
            answered(None)
            return response
        answered(events.usage)
        if rest := events.rest():
            await response.write(rest)
        await response.write_eof()
        return response
