"""Traces: program, step, model call, tool, with the conventions' names; nothing at all when they are off."""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.daemon.killable import KillableNode
from thunderctl.core import events as ev
from thunderctl.core.policies import make_policy
from thunderctl.core.scheduler import Scheduler
from thunderctl.daemon import tracing
from thunderctl.daemon.shell import Shell
from thunderctl.daemon.tracing import Tracing


class Traced:
    """A shell with one worker, whose spans stay in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.shell = Shell(Scheduler(make_policy("thunder", {})), None, self._reclaimed)
        self.tracing = Tracing(provider, model="small", now=self.shell.now)
        self.shell.spectators = (self.tracing.saw,)
        self.shell.submit(ev.WorkerUp("w0", 10_000))

    def _reclaimed(self, program: str) -> None:
        self.tracing.program_ended(program)

    def call(self, program: str, *, streamed: bool = False) -> None:
        call = self.shell.arrive(program, 100)
        if streamed:
            self.shell.submit(ev.FirstToken(call.id))
        self.shell.end_finished(call, 100, 50, 20, 7)

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, beginning: str) -> list[ReadableSpan]:
        return [span for span in self.spans() if span.name.startswith(beginning)]


@pytest.fixture
async def traced() -> Traced:
    return Traced()


def parent_id(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


async def test_a_program_is_a_trace_of_steps_with_a_call_and_its_tools(traced: Traced) -> None:
    for _ in range(2):
        traced.call("p", streamed=True)
        traced.shell.submit(ev.ToolStarted("p", "pytest"))
        traced.shell.submit(ev.ToolFinished("p", 0.5))
    traced.shell.submit(ev.ProgramReleased("p"))
    (program,) = traced.named("invoke_agent")
    steps, calls, tools = traced.named("step"), traced.named("chat small"), traced.named("execute_tool pytest")
    assert program.parent is None and len(steps) == len(calls) == len(tools) == 2
    assert {parent_id(step) for step in steps} == {program.context.span_id}
    assert [parent_id(call) for call in calls] == [step.context.span_id for step in steps]
    assert [parent_id(tool) for tool in tools] == [step.context.span_id for step in steps]
    assert len({span.context.trace_id for span in traced.spans()}) == 1
    assert all(span.start_time <= span.end_time for span in traced.spans() if span.start_time and span.end_time)
    assert [step.attributes["thunderctl.step.number"] for step in steps if step.attributes] == [1, 2]


async def test_calls_carry_the_conventions_names_and_counts(traced: Traced) -> None:
    traced.call("p", streamed=True)
    (call,) = traced.named("chat")
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "small",
        "gen_ai.conversation.id": "p",
        "gen_ai.usage.input_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.output_tokens": 7,
        "thunderctl.worker": "w0",
    }.items() <= dict(call.attributes or {}).items()
    assert [event.name for event in call.events] == ["thunderctl.call.admitted", "thunderctl.call.first_token"]


async def test_calls_that_run_side_by_side_belong_to_one_step(traced: Traced) -> None:
    first, second = traced.shell.arrive("p", 100), traced.shell.arrive("p", 100)
    traced.shell.end_finished(second, 100, 50, 0, 5)
    traced.shell.end_finished(first, 100, 50, 0, 5)
    traced.call("p")
    traced.shell.submit(ev.ProgramReleased("p"))
    steps, calls = traced.named("step"), traced.named("chat")
    assert [len([c for c in calls if parent_id(c) == step.context.span_id]) for step in steps] == [2, 1]


async def test_a_failed_call_and_one_whose_client_went_away_say_so(traced: Traced) -> None:
    traced.shell.end_failed(traced.shell.arrive("p", 100))
    traced.shell.end_cancelled(traced.shell.arrive("p", 100))
    failed, gone = traced.named("chat")
    assert (failed.attributes or {})["error.type"] == "worker_failed" and not failed.status.is_ok
    assert (gone.attributes or {})["error.type"] == "client_gone"


@pytest.mark.parametrize("tool", ["curl https://x/?key=hunter2", "'my secret'", ""])
async def test_of_a_tool_that_a_model_called_only_a_plain_name_gets_out(traced: Traced, tool: str) -> None:
    traced.call("p")
    traced.shell.submit(ev.ToolStarted("p", tool))
    traced.shell.submit(ev.ToolFinished("p", 0.1))
    (span,) = traced.named("execute_tool")
    assert span.name == "execute_tool tool" and (span.attributes or {})["gen_ai.tool.name"] == "tool"


async def test_what_is_open_when_the_node_ends_is_sent(traced: Traced) -> None:
    traced.call("p")
    assert traced.named("invoke_agent") == []
    await traced.tracing.close()
    assert len(traced.named("invoke_agent")) == len(traced.named("step")) == 1


async def test_a_program_that_ended_leaves_nothing_in_memory(traced: Traced) -> None:
    for number in range(20):
        traced.call(f"p{number}")
        traced.shell.submit(ev.ProgramReleased(f"p{number}"))
    assert traced.tracing._open == {}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, False),
    ],
)
def test_the_standard_variables_switch_traces_on_and_off(environ: dict[str, str], wanted: bool) -> None:
    assert tracing.is_wanted(environ) is wanted


def test_nothing_of_opentelemetry_is_loaded_while_traces_are_off() -> None:
    code = "import sys, thunderctl.daemon.node; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_extra_that_is_not_installed_is_named_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with caplog.at_level(logging.WARNING):
        assert tracing.provider_from({}, "n") is None
    assert "pip install 'thunderctl[otel]'" in caplog.text


def test_a_protocol_that_is_not_spoken_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert tracing.provider_from({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "n") is None
    assert "only http/protobuf" in caplog.text


class Receiver(BaseHTTPRequestHandler):
    """As much of an OTLP collector as it takes to read what was sent."""

    bodies: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def a_receiver() -> Iterator[tuple[str, list[bytes]]]:
    bodies: list[bytes] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Receiver,), {"bodies": bodies}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_node_sends_its_traces_to_a_collector_and_no_word_of_a_prompt(tmp_path: Path) -> None:
    prompt = "the moon is made of a secret cheese"
    with a_receiver() as (endpoint, bodies):
        node = KillableNode(tmp_path / "home", {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
        node.prepare(workers={"count": 1})
        node.start()
        try:

            async def work() -> None:
                async with node.client() as client:
                    for _ in range(2):
                        await client._send(
                            "POST", "/v1/chat/completions",
                            {"model": "small", "program_id": "p", "messages": [{"role": "user", "content": prompt}],
                             "vllm_xargs": {"replay": "an answer of green cheese"}},
                        )  # fmt: skip
                        await client.tool("p", "started", "pytest")
                        await client.tool("p", "finished")
                    await client.release("p")

            asyncio.run(work())
        finally:
            node.end()
    requests = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    spans = [span for r in requests for rs in r.resource_spans for ss in rs.scope_spans for span in ss.spans]
    assert sorted(span.name for span in spans) == sorted(
        ["invoke_agent", "step", "step", "chat small", "chat small", "execute_tool pytest", "execute_tool pytest"]
    )
    said = {a.key: a.value.string_value for r in requests for rs in r.resource_spans for a in rs.resource.attributes}
    assert said["service.name"] == "thunderctl" and said["service.instance.id"] == "n"
    everything = b"".join(bodies)
    assert b"cheese" not in everything and b"moon" not in everything


def test_a_collector_that_is_not_there_keeps_no_node_from_working_or_going_down(tmp_path: Path) -> None:
    node = KillableNode(tmp_path / "home", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    node.prepare(workers={"count": 1})
    node.start()
    try:

        async def work() -> None:
            async with node.client() as client:
                await client.complete("p", [1] * 100, [2] * 5)
                await client.release("p")

        asyncio.run(work())
        assert node.get("/health")["tally"]["finished"] == 1
    finally:
        node.end()
    assert node.process is not None and node.process.returncode == 0
    assert "stopped" in (node.home / "daemon.log").read_text()
