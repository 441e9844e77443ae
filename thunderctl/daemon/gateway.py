"""The HTTP door of agents: OpenAI's and Anthropic's paths, each call held until the scheduler admits it.

A call ends in exactly one outcome, whatever happens to the client, the worker or the daemon in the meantime; that is
what the shape of ``_scheduled`` is for. A client that goes away cancels the handler at whatever it waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from thunderctl.core import events as ev
from thunderctl.core.effects import Reject
from thunderctl.daemon.door import STREAMED, Exchange, Handler, Reply, error
from thunderctl.daemon.gate import HEADER as WEIGHTS_HEADER
from thunderctl.daemon.gate import Gate, Passage
from thunderctl.daemon.http11 import Headers
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


@dataclass(slots=True)
class _Forward:
    """One request on its way to a worker."""

    path: str
    body: bytes
    size: int
    """Bytes of the body as the client sent it."""
    keep_usage: bool
    headers: bytes
    continues: bool = False
    """The client goes on by itself from an answer that was cut off."""


class Gateway:
    """Handlers of the paths that workers serve."""

    def __init__(
        self, spec: GatewaySpec, shell: Shell, upstreams: Upstreams, *, own_key: bool, gate: Gate | None = None
    ) -> None:
        self._spec = spec
        self._gate = gate or Gate()
        self._shell = shell
        self._upstreams = upstreams
        self._own_key = own_key
        self._max_held = spec.max_held
        self.draining = False

    def handlers(self) -> dict[tuple[str, str], Handler]:
        """By method and path."""
        return {
            **{("POST", path): self.call for path in SCHEDULED},
            **{("POST", path): self.passed_on for path in UNSCHEDULED},
            ("GET", "/v1/models"): self.passed_on,
        }

    async def passed_on(self, request: Exchange) -> Reply:
        """A request that any worker can answer, and that no program waits behind."""
        if self.draining:
            return self._stopping()
        body = request.body
        headers = request_headers(request.raw_headers, own_key=self._own_key)
        reply = await self._unscheduled(request, _Forward(request.path, body, len(body), True, headers))
        assert reply is not None  # noqa: S101 - no weights have a part in it
        return reply

    async def call(self, request: Exchange) -> Reply:
        """A model call, streamed or not."""
        if self.draining:
            return self._stopping()
        raw, path = request.body, request.path
        try:
            body = parse_body(raw)
            who = identify(body, request.headers)
            sent, asked = ask_for_usage(raw, body) if path in COMPLETIONS else (raw, True)
        except BadBody as bad:
            return error(400, str(bad), "invalid_request_error")
        headers = request_headers(request.raw_headers, own_key=self._own_key)
        continues = bool(body.return_token_ids) and path == "/v1/completions"
        forward = _Forward(path, sent, len(raw), asked, headers, continues)
        if who.program is None:
            self._shell.tally.unscheduled += 1
            return await self._beside(request, forward)
        if self._shell.held_calls >= self._max_held and self._shell.would_hold(who.program):
            self._shell.tally.overload += 1
            waiting = f"{self._max_held} calls wait already (gateway.max_held)"
            return error(503, waiting, "overloaded_error", OVERLOAD_RETRY_S)
        return await self._scheduled(request, forward, who, who.program, body.prompt_ids())

    def _stopping(self) -> Reply:
        return error(503, "the daemon is stopping", "unavailable", 5)

    async def _scheduled(
        self, request: Exchange, forward: _Forward, who: Identity, program: str, prompt_ids: int | None
    ) -> Reply:
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
            attempt = 0
            while attempt <= self._spec.retries:
                admitted = await call.admission
                if isinstance(admitted, Reject):
                    ended = True  # the scheduler has forgotten it already
                    return error(admitted.status, admitted.reason, "unavailable", admitted.retry_after_s)
                passage = await self._gate.enter(continues=forward.continues)
                try:
                    if self.draining and passage.waited_s:
                        return self._stopping()  # the gate was opened because the daemon stops
                    connections = self._upstreams.get(admitted.worker)
                    if connections is None:
                        raise ConnectionFailed(f"{admitted.worker} is gone")
                    answer = await connections.send("POST", forward.path, forward.headers, forward.body)
                    waited_ms = (admitted.waited_s * shell.time_scale + passage.waited_s) * 1000
                    extra = {
                        "X-Thunderctl-Worker": admitted.worker,
                        "X-Thunderctl-Held-Ms": f"{waited_ms:.1f}",
                        WEIGHTS_HEADER: str(passage.version),
                    }
                    reply = await self._relay(request, forward, answer, extra, call, answered, passage)
                    if reply is not None:
                        return reply
                except ConnectionFailed as refused:
                    failure = refused
                    if refused.begun:
                        ended = True
                        shell.end_failed(call)
                        return error(502, str(refused), "bad_gateway", 5)
                    if attempt == self._spec.retries:
                        break
                    self._gate.leave(passage)
                    await asyncio.sleep(min(2.0, 0.1 * 2**attempt))
                    attempt += 1
                    shell.bounce(call)
                finally:
                    self._gate.leave(passage)
            ended = True
            shell.end_failed(call)
            attempts = self._spec.retries + 1
            return error(502, f"no worker answered in {attempts} attempts: {failure}", "bad_gateway", 5)
        finally:
            if not ended:  # cancelled: the client went away
                shell.end_cancelled(call)

    async def _beside(self, request: Exchange, forward: _Forward) -> Reply:
        """A model call that belongs to no program: it passes the scheduler, but not the gate."""
        while True:
            passage = await self._gate.enter(continues=forward.continues)
            try:
                if self.draining and passage.waited_s:
                    return self._stopping()
                reply = await self._unscheduled(request, forward, passage)
                if reply is not None:
                    return reply
            finally:
                self._gate.leave(passage)

    async def _unscheduled(self, request: Exchange, forward: _Forward, passage: Passage | None = None) -> Reply | None:
        """To the workers in turn, past the scheduler; ``None`` if it is to be made again."""
        extra = {WEIGHTS_HEADER: str(passage.version)} if passage is not None else {}
        for connections in self._upstreams.in_turn():
            try:
                answer = await connections.send(request.method, forward.path, forward.headers, forward.body)
            except ConnectionFailed as refused:
                if refused.begun:
                    return error(502, str(refused), "bad_gateway", 5)
                continue
            return await self._relay(request, forward, answer, extra, None, lambda usage: None, passage)
        return error(503, "no worker is up", "unavailable", 5)

    async def _relay(
        self,
        request: Exchange,
        forward: _Forward,
        answer: Answer,
        extra: dict[str, str],
        call: HeldCall | None,
        answered: Answered,
        passage: Passage | None,
    ) -> Reply | None:
        """Pass the worker's answer on, byte for byte; ``answered`` is told before the last of them goes out.

        ``None``: nothing went out, for the weights change and the call is to be made again.
        """
        headers = [*response_headers(answer), *extra.items()]
        try:
            if not answer.is_stream:
                try:
                    data = await answer.read()
                except ConnectionFailed:
                    answered(None)
                    return error(502, "the worker broke off its answer", "bad_gateway", 5)
                usage = usage_of(data) if passage is not None and answer.status == 200 else None
                if passage is not None and self._gate.unfinished(passage, usage.output_tokens if usage else 0):
                    return None
                answered(usage)
                return Reply(answer.status, data, headers)
            try:
                first = await answer.piece()
            except ConnectionFailed:
                answered(None)
                return error(502, "the worker broke off its answer", "bad_gateway", 5)
            if passage is not None and not self._gate.begin(passage):
                return None
            return await self._relay_stream(request, forward, answer, first, headers, call, answered)
        finally:
            answer.close()  # hanging up on an answer that is not complete makes the engine abort the request

    async def _relay_stream(
        self,
        request: Exchange,
        forward: _Forward,
        answer: Answer,
        first: bytes,
        headers: Headers,
        call: HeldCall | None,
        answered: Answered,
    ) -> Reply:
        """The stream that begins with the piece ``first``."""
        events = StreamReader(keep=forward.keep_usage)
        reported = 0

        def pass_on(piece: bytes) -> None:
            nonlocal reported
            passed = events.feed(piece)
            if call is not None and not reported and events.tokens:
                reported = events.tokens
                self._shell.submit(ev.FirstToken(call.id))
            elif call is not None and events.tokens - reported >= PROGRESS_EVERY:
                reported = events.tokens
                self._shell.submit(ev.CallProgress(call.id, reported))
            if events.ended and events.usage is not None:
                answered(events.usage)
            if passed:
                request.write(passed)

        request.begin(answer.status, headers, answer)
        try:
            if first:
                pass_on(first)
            await answer.each(pass_on)
        except ConnectionFailed:
            request.cut()
            answered(None)
            return STREAMED
        answered(events.usage)
        if rest := events.rest():
            request.write(rest)
        request.end()
        return STREAMED
