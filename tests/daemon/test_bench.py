"""The two ends of the gateway benchmark tell what they did; the benchmark itself in its smallest size."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from thunderctl.daemon.bench import Load, Measured


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    argv = [sys.executable, "-m", "thunderctl.daemon.bench", "upstream"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.terminate()


def measured(load: Load) -> Measured:
    argv = [sys.executable, "-m", "thunderctl.daemon.bench", "load", json.dumps(asdict(load))]
    return Measured(**json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout))


@pytest.mark.parametrize("size", [300, 200_000])
def test_a_load_counts_its_answers(upstream: int, size: int) -> None:
    got = measured(Load(upstream, connections=4, seconds=0.3, body_bytes=size))
    assert got.requests > 4 and got.errors == 0 and 0 < got.median_ms <= got.p99_ms


def test_a_load_of_rounds_ends_by_itself_after_exactly_so_many(upstream: int) -> None:
    got = measured(Load(upstream, connections=5, seconds=0, body_bytes=300, rounds=7))
    assert got.requests == 35


def test_streams_arrive_whole(upstream: int) -> None:
    got = measured(Load(upstream, connections=3, seconds=0, body_bytes=300, chunks=10, every_ms=2.0, rounds=2))
    assert (got.requests, got.chunks) == (6, 60)


@pytest.mark.slow
def test_the_whole_benchmark_sets_the_gateway_beside_the_direct_way() -> None:
    begin = "import typer; from thunderctl.cli.bench_gateway import gateway; typer.run(gateway)"
    sizes = ["--connections", "4", "--seconds", "0.5", "--programs", "100", "--json"]
    done = subprocess.run([sys.executable, "-c", begin, *sizes], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    rows = [row for row in result["throughput"] if row["target"] == "thunderctl"]
    assert {row["body_bytes"] for row in rows} == {4_000, 200_000}
    assert all(row["errors"] == 0 and row["cpu_us_per_request"] > 0 for row in rows)
    assert all(row["delivered_share"] > 0.5 for row in result["streams"])
