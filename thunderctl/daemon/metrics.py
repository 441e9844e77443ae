"""``GET /metrics``: Prometheus text. No program ids as labels: their number has no bound."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from thunderctl.core.ledger import WorkerLedger
from thunderctl.daemon.shell import Shell

COUNTERS = {
    "arrived": "Calls that reached the scheduler",
    "admitted": "Calls admitted to a worker, repeated admissions counted",
    "rejected": "Calls refused by the scheduler",
    "finished": "Calls answered completely",
    "failed": "Calls that a worker failed",
    "cancelled": "Calls whose client went away",
    "unscheduled": "Model calls that named no program",
    "overload": "Calls refused because too many waited already",
    "retried": "Further attempts after a failed connection",
    "pauses": "Programs paused",
    "restores": "Programs restored",
    "forced_restores": "Programs restored although they did not fit",
    "migrations": "Programs restored on another worker than their last",
    "prompt_tokens": "Prompt tokens, as the engines state them",
    "cached_tokens": "Prompt tokens served from the prefix cache, as the engines state them",
    "output_tokens": "Output tokens, as the engines state them",
    "held_seconds": "Seconds calls waited for admission",
}


class ShellCollector:
    """Reads the shell's counters when somebody asks; nothing is counted twice."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def collect(self) -> Iterable[Metric]:
        shell = self._shell
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(f"thunderctl_{name}", text, value=getattr(shell.tally, name))
        calls = GaugeMetricFamily("thunderctl_calls", "Calls now", labels=["state"])
        calls.add_metric(["held"], shell.held_calls)
        calls.add_metric(["in_flight"], shell.in_flight_calls)
        yield calls
        states = Counter((p.status.value, p.phase.value) for p in shell.scheduler.programs.values())
        programs = GaugeMetricFamily("thunderctl_programs", "Programs by state", labels=["status", "phase"])
        for (status, phase), count in states.items():
            programs.add_metric([status, phase], count)
        yield programs
        use = GaugeMetricFamily("thunderctl_worker_tokens", "KV tokens by use", labels=["worker", "use"])
        spent = CounterMetricFamily(
            "thunderctl_token_seconds",
            "Space and time spent, in token seconds (paper, section 4.2)",
            labels=["worker", "kind"],
        )
        for worker in shell.scheduler.workers.values():
            use.add_metric([worker.name, "capacity"], worker.capacity)
            use.add_metric([worker.name, "reasoning"], worker.reasoning)
            use.add_metric([worker.name, "acting"], worker.acting)
            use.add_metric([worker.name, "faded_acting"], faded_acting(worker, shell.now()))
            for kind in ("decode", "prefill", "recompute", "caching"):
                spent.add_metric([worker.name, kind], getattr(worker.cost, kind))
        yield use
        yield spent


def faded_acting(worker: WorkerLedger, now: float) -> float:
    """Σ acting·f(t) in tokens, read off a copy: a look must not move the scheduler's own sum."""
    return copy.copy(worker.fading).read(now)


def prometheus_text(shell: Shell) -> bytes:
    registry = CollectorRegistry()
    registry.register(ShellCollector(shell))
    return generate_latest(registry)
