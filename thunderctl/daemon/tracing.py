"""OpenTelemetry traces: a program is a trace, its steps are spans, and in each a model call and the tools after it.

Off unless the standard variables say where to (``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``…_TRACES_ENDPOINT``, or
``OTEL_TRACES_EXPORTER``), and then nothing of OpenTelemetry is imported. What is said of a call is names, moments and
counts: prompts and answers never come this way. Needs the extra ``otel``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thunderctl import __version__
from thunderctl.core import events as ev
from thunderctl.core.program import Call
from thunderctl.daemon import tracing_names as names

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

log = logging.getLogger("thunderctl.tracing")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
LONGEST_FLUSH_S = 3.0
"""A collector that does not answer must not keep a node from going down."""
_PLAIN_TOOL = re.compile(r"[\w.+-]{1,64}")
_FAILURES: dict[type[ev.Event], str] = {ev.CallFailed: "worker_failed", ev.CallCancelled: "client_gone"}


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the standard variables ask for traces."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "")
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none":
        return False
    return exporter in ("otlp", "console") or any(environ.get(name) for name in ENDPOINTS)


def provider_from(environ: Mapping[str, str], node: str) -> TracerProvider | None:
    """A provider that exports as the variables say; ``None``, and a line in the log, where that cannot be done."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    except ImportError as missing:
        log.warning(
            "no traces: OpenTelemetry is asked for but not installed (%s): pip install 'thunderctl[otel]'", missing
        )
        return None
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in (None, "", "http/protobuf"):
        log.warning("no traces: OTEL_EXPORTER_OTLP_PROTOCOL is %s, and only http/protobuf is spoken here", protocol)
        return None
    said = {names.SERVICE_VERSION: __version__, names.SERVICE_INSTANCE: node}
    if not environ.get("OTEL_SERVICE_NAME"):
        said[names.SERVICE] = "thunderctl"
    provider = TracerProvider(resource=Resource.create(said), shutdown_on_exit=False)
    console = environ.get("OTEL_TRACES_EXPORTER") == "console"
    provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter() if console else OTLPSpanExporter()))
    return provider


@dataclass(slots=True)
class _Trace:
    """One program's open spans."""

    program: Span
    step: Span | None = None
    step_until: float = 0.0
    """When the last call of the present step ended; one that had begun before belongs to the same step."""
    steps: int = 0
    tools: list[tuple[str, int]] = field(default_factory=list)
    """Tools that run: their names and when they began, oldest first."""


class Tracing:
    """Turns events into spans. :meth:`saw` is a spectator of the shell.

    ``now`` is the scheduler's clock; a second of it takes ``time_scale`` seconds on the wall.
    """

    def __init__(
        self, provider: TracerProvider, *, model: str, now: Callable[[], float], time_scale: float = 1.0
    ) -> None:
        from opentelemetry import trace

        self._trace = trace
        self._provider = provider
        self._tracer = provider.get_tracer("thunderctl", __version__)
        self._model = model
        self._now = now
        self._scale = time_scale
        self._open: dict[str, _Trace] = {}

    def _wall_ns(self, moment: float) -> int:
        """A moment of the scheduler's clock, in nanoseconds since the epoch."""
        return time.time_ns() - round((self._now() - moment) * self._scale * 1e9)

    def saw(self, event: ev.Event, call: Call | None, now: float) -> None:
        if isinstance(event, ev.CallArrived):
            self._begin(event.program, now, event.group)
        elif call is not None:
            self._call_ended(event, call, now)
        elif isinstance(event, ev.ToolStarted):
            if (known := self._open.get(event.program)) is not None:
                known.tools.append((event.tool, self._wall_ns(now)))
        elif isinstance(event, ev.ToolFinished):
            self._tool_ended(event, now)

    def _begin(self, program: str, now: float, group: str | None) -> _Trace:
        found = self._open.get(program)
        if found is None:
            said: dict[str, Any] = {
                names.OPERATION: names.INVOKE_AGENT, names.PROVIDER: names.PROVIDER_VLLM,
                names.AGENT_ID: program, names.CONVERSATION_ID: program, names.REQUEST_MODEL: self._model,
            }  # fmt: skip
            if group is not None:
                said[names.GROUP] = group
            span = self._tracer.start_span(names.INVOKE_AGENT, attributes=said, start_time=self._wall_ns(now))
            found = self._open[program] = _Trace(span)
        return found

    def _child(self, name: str, parent: Span, began_ns: int, said: dict[str, Any], *, client: bool = False) -> Span:
        return self._tracer.start_span(
            name,
            self._trace.set_span_in_context(parent),
            self._trace.SpanKind.CLIENT if client else self._trace.SpanKind.INTERNAL,
            attributes=said,
            start_time=began_ns,
        )

    def _call_ended(self, event: ev.Event, call: Call, now: float) -> None:
        known = self._begin(call.program, call.arrived, None)
        began, ended = self._wall_ns(call.arrived), self._wall_ns(now)
        admitted = now if call.admitted is None else call.admitted
        if known.step is None or call.arrived >= known.step_until:
            if known.step is not None:
                known.step.end(began)
            known.steps += 1
            said = {names.OPERATION: names.STEP, names.CONVERSATION_ID: call.program, names.STEP_NUMBER: known.steps}
            known.step = self._child(names.STEP, known.program, began, said)
        known.step_until = now
        facts: dict[str, Any] = {
            names.OPERATION: names.CHAT, names.PROVIDER: names.PROVIDER_VLLM, names.REQUEST_MODEL: self._model,
            names.CONVERSATION_ID: call.program, names.HELD_S: round(admitted - call.arrived, 6),
        }  # fmt: skip
        if call.worker is not None:
            facts[names.WORKER] = call.worker
        if isinstance(event, ev.CallFinished):
            facts[names.INPUT_TOKENS] = event.prompt_tokens
            facts[names.CACHED_TOKENS] = event.cached_tokens
            facts[names.OUTPUT_TOKENS] = event.output_tokens
        span = self._child(f"{names.CHAT} {self._model}", known.step, began, facts, client=True)
        if call.admitted is not None:
            span.add_event(names.ADMITTED, timestamp=self._wall_ns(call.admitted))
        if call.first_token is not None:
            span.add_event(names.FIRST_TOKEN, timestamp=self._wall_ns(call.first_token))
        if (failure := _FAILURES.get(type(event))) is not None:
            span.set_attribute(names.ERROR_TYPE, failure)
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(ended)

    def _tool_ended(self, event: ev.ToolFinished, now: float) -> None:
        known = self._open.get(event.program)
        if known is None:
            return
        ended = self._wall_ns(now)
        tool, began = known.tools.pop(0) if known.tools else ("", ended - round(event.seconds * self._scale * 1e9))
        # A model wrote the command; of that only a plain name gets out.
        name = tool if _PLAIN_TOOL.fullmatch(tool) else "tool"
        said = {names.OPERATION: names.EXECUTE_TOOL, names.TOOL_NAME: name, names.CONVERSATION_ID: event.program}
        self._child(f"{names.EXECUTE_TOOL} {name}", known.step or known.program, began, said).end(ended)

    def program_ended(self, program: str) -> None:
        """Close the program's trace; one that comes back begins another."""
        known = self._open.pop(program, None)
        if known is not None:
            ended = time.time_ns()
            if known.step is not None:
                known.step.end(ended)
            known.program.set_attribute(names.STEPS, known.steps)
            known.program.end(ended)

    async def close(self) -> None:
        """End what is open and send what is left, within ``LONGEST_FLUSH_S``."""
        for program in list(self._open):
            self.program_ended(program)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # nobody waited so long
                loop.call_soon_threadsafe(ended.set)

        # A thread that nobody joins: the SDK goes on trying for longer than a node may take to go down.
        threading.Thread(target=shut_down, daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), LONGEST_FLUSH_S)
