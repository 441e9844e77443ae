"""``GET /metrics``: Prometheus text. No program ids as labels: their number has no bound.

Totals are read off the shell when somebody asks, so nothing is counted twice; only durations are kept here. Seconds are
those of the node's clock, which an emulated node may run slower than the wall.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from thunderctl.core import events as ev
from thunderctl.core.ledger import WorkerLedger
from thunderctl.core.program import Call, Phase, Status
from thunderctl.daemon.shell import Shell

COUNTERS = {
    "arrived": ("calls_arrived", "Calls that reached the scheduler"),
    "admitted": ("calls_admitted", "Calls admitted to a worker, repeated admissions counted"),
    "rejected": ("calls_rejected", "Calls refused by the scheduler"),
    "finished": ("calls_finished", "Calls answered completely: steps of programs"),
    "failed": ("calls_failed", "Calls that a worker failed"),
    "cancelled": ("calls_cancelled", "Calls whose client went away"),
    "unscheduled": ("calls_unscheduled", "Model calls that named no program; begins again with the daemon"),
    "overload": ("calls_overload", "Calls refused because too many waited already; begins again with the daemon"),
    "retried": ("calls_retried", "Further attempts after a failed connection"),
    "pauses": ("program_pauses", "Programs paused"),
    "restores": ("program_restores", "Programs restored after a pause"),
    "forced_restores": ("program_forced_restores", "Programs restored although they did not fit"),
    "migrations": ("program_migrations", "Programs restored on another worker than their last"),
    "prompt_tokens": ("prompt_tokens", "Prompt tokens, as the engines state them"),
    "cached_tokens": ("cached_tokens", "Prompt tokens served from the prefix cache, as the engines state them"),
    "output_tokens": ("output_tokens", "Output tokens, as the engines state them"),
    "held_seconds": ("calls_held_seconds", "Seconds that calls waited for admission"),
}
"""By field of the tally: the metric's name without prefix and ``_total``, and its help text."""

SHORT_S = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
"""Bounds of all durations: from an admission at once to a pause at its cap."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a scrape asks of the node beside its shell; each is called at every scrape."""

    about: Mapping[str, str]
    """Labels of ``thunderctl_node_info``."""
    started: float
    """Seconds since the epoch."""
    is_ready: Callable[[], bool]
    workers: Callable[[], list[dict[str, Any]]]
    """As in the live picture."""
    environments: Callable[[], Mapping[str, int]]
    """Leases by state."""
    disk: Callable[[], dict[str, Any] | None]
    """As last measured; ``None`` if it never was."""


class Metrics:
    """Everything that ``/metrics`` tells. :meth:`saw` is a spectator of the shell."""

    def __init__(self, shell: Shell, facts: NodeFacts) -> None:
        # In this format they would be gauges of their own, one a histogram.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._registry.register(_NodeCollector(shell, facts))
        self._held = self._durations("call_held_seconds", "Seconds that an answered call waited for admission")
        self._call = self._durations("call_duration_seconds", "Seconds of an answered call, its waiting included")
        self._prefill = self._durations(
            "call_first_token_seconds", "Seconds from admission to the first token, of calls that are streamed"
        )
        self._tool = self._durations("tool_duration_seconds", "Seconds that a tool of a program ran")
        self._prepared = self._durations(
            "environment_preparation_seconds", "Seconds that preparing a tool environment took"
        )

    def _durations(self, name: str, text: str) -> Histogram:
        return Histogram(f"thunderctl_{name}", text, buckets=SHORT_S, registry=self._registry)

    def saw(self, event: ev.Event, call: Call | None, now: float) -> None:
        if isinstance(event, ev.CallFinished) and call is not None:
            admitted = now if call.admitted is None else call.admitted
            self._held.observe(admitted - call.arrived)
            self._call.observe(now - call.arrived)
            if call.first_token is not None:
                self._prefill.observe(call.first_token - admitted)
        elif isinstance(event, ev.ToolFinished):
            self._tool.observe(event.seconds)
        elif isinstance(event, ev.EnvironmentReady):
            self._prepared.observe(event.seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _NodeCollector:
    """Reads the shell and the node when somebody asks."""

    def __init__(self, shell: Shell, facts: NodeFacts) -> None:
        self._shell = shell
        self._facts = facts

    def collect(self) -> Iterable[Metric]:
        yield from self._node()
        yield from self._programs()
        yield from self._workers()
        yield from self._cost()
        yield from self._environments()

    def _node(self) -> Iterable[Metric]:
        yield InfoMetricFamily("thunderctl_node", "What this node runs", value=dict(self._facts.about))
        version = self._shell.scheduler.weights
        yield GaugeMetricFamily("thunderctl_weights_version", "Version of the model's weights in force", value=version)
        yield GaugeMetricFamily(
            "thunderctl_node_ready", "1 once every worker is up, else 0", value=float(self._facts.is_ready())
        )
        yield GaugeMetricFamily(
            "thunderctl_node_start_time_seconds", "When the daemon began, since the epoch", value=self._facts.started
        )

    def _programs(self) -> Iterable[Metric]:
        shell = self._shell
        for name, (metric, text) in COUNTERS.items():
            yield CounterMetricFamily(f"thunderctl_{metric}", text, value=getattr(shell.tally, name))
        yield _gauges(
            "calls", "Calls now", ["state"],
            {("held",): shell.held_calls, ("in_flight",): shell.in_flight_calls},
        )  # fmt: skip
        states = {(status.value, phase.value): 0 for status in (Status.ACTIVE, Status.PAUSED) for phase in Phase}
        for program in shell.scheduler.programs.values():
            states[program.status.value, program.phase.value] += 1
        yield _gauges("programs", "Programs now", ["status", "phase"], states)

    def _workers(self) -> Iterable[Metric]:
        shell = self._shell
        workers = self._facts.workers()
        yield _gauges(
            "worker_up", "1 while the worker takes calls, else 0", ["worker"],
            {(w["name"],): w["state"] == "up" for w in workers},
        )  # fmt: skip
        known = shell.scheduler.workers.values()
        yield _gauges(
            "worker_kv_capacity_tokens", "KV tokens that the worker has room for", ["worker"],
            {(w.name,): w.capacity for w in known},
        )  # fmt: skip
        yield _gauges(
            "worker_kv_tokens",
            "KV tokens that programs need on the worker, by their phase; faded_acting: what of acting still counts",
            ["worker", "use"],
            {
                (w.name, use): tokens
                for w in known
                for use, tokens in (
                    ("reasoning", w.reasoning), ("acting", w.acting), ("faded_acting", faded_acting(w, shell.now())),
                )
            },
        )  # fmt: skip
        yield _gauges(
            "worker_programs", "Programs that hold KV room on the worker", ["worker"],
            {(w["name"],): w["programs"] for w in workers},
        )  # fmt: skip
        sampled = [w for w in workers if w["engine_running"] is not None]
        yield _gauges(
            "worker_engine_requests", "Requests in the engine, as it stated last", ["worker", "state"],
            {(w["name"], state): w[f"engine_{state}"] for w in sampled for state in ("running", "waiting")},
        )  # fmt: skip
        yield _gauges(
            "worker_engine_kv_usage_ratio", "Share of KV blocks that running requests hold, as the engine stated last",
            ["worker"], {(w["name"],): w["engine_kv_usage"] for w in sampled},
        )  # fmt: skip

    def _cost(self) -> Iterable[Metric]:
        spent = CounterMetricFamily(
            "thunderctl_worker_kv_token_seconds",
            "KV space times time spent, by what it went into (ThunderAgent paper, section 4.2)",
            labels=["worker", "kind"],
        )
        again = CounterMetricFamily(
            "thunderctl_worker_recomputed_tokens",
            "Tokens computed again that had been cached before",
            labels=["worker"],
        )
        for worker in self._shell.scheduler.workers.values():
            for kind in ("decode", "prefill", "recompute", "caching"):
                spent.add_metric([worker.name, kind], getattr(worker.cost, kind))
            again.add_metric([worker.name], worker.cost.recomputed_tokens)
        yield spent
        yield again

    def _environments(self) -> Iterable[Metric]:
        leases = {"requested": 0, "preparing": 0, "ready": 0, "in_use": 0} | dict(self._facts.environments())
        yield _gauges(
            "environments", "Tool environments now", ["state"], {(state,): count for state, count in leases.items()}
        )
        disk = self._facts.disk()
        kinds = disk["by_kind"] if disk else {}
        yield _gauges(
            "environment_disk_bytes", "Bytes on disk that environments and their images hold, as last measured",
            ["kind"], {(kind,): size for kind, size in kinds.items()},
        )  # fmt: skip
        yield CounterMetricFamily(
            "thunderctl_environment_collected_bytes", "Bytes that reclaimed environments and removed images held",
            value=disk["collected_bytes"] if disk else 0,
        )  # fmt: skip


def _gauges(name: str, text: str, labels: list[str], values: Mapping[Any, float]) -> GaugeMetricFamily:
    """One gauge for each tuple of label values."""
    family = GaugeMetricFamily(f"thunderctl_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), float(value))
    return family


def faded_acting(worker: WorkerLedger, now: float) -> float:
    """Σ acting·f(t) in tokens, read off a copy: a look must not move the scheduler's own sum."""
    return copy.copy(worker.fading).read(now)
