"""Reports say what the run's folder says."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.report.recompute import differences
from thunderctl.errors import UsageError
from thunderctl.report.run_page import write_page
from thunderctl.report.stats import percentile, summarise
from thunderctl.report.tables import run_table, size
from thunderctl.runs.store import SCHEMA, RunFolder, find_run


def a_run(folder: Path, seed: int = 1, agents: int = 5) -> RunFolder:
    """A stored run with figures drawn from ``seed``."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    run.write(
        "manifest.json",
        {
            "schema": SCHEMA, "workload": "swebench", "kind": "replay", "tasks_are": "bundled with thunderctl",
            "profile": "laptop", "policy": "thunder", "engine": "cpu", "agents": agents,
            "environments": {"backend": "local"},
        },
    )  # fmt: skip
    at = 0.0
    for n in range(agents):
        for step in range(4):
            at += rng.random()
            run.append(
                "steps",
                {
                    "agent": f"agent-{n:03d}", "step": step + 1, "at": at, "ended": at + 3 * rng.random(),
                    "content": "x",
                    "latency_s": 1 + rng.random(), "held_s": rng.random(), "prompt_tokens": rng.randrange(100, 900),
                    "cached_tokens": rng.randrange(0, 100), "output_tokens": rng.randrange(1, 50), "worker": "w0",
                    "tool_s": rng.random(), "command": rng.choice(["ls", None]), "timed_out": rng.random() < 0.2,
                },
            )  # fmt: skip
        rollout = {"agent": f"agent-{n:03d}", "status": "submitted", "resolved": None, "prepare_s": rng.random()}
        run.append("rollouts", rollout)
        run.append("rollouts", {**rollout, "resolved": rng.choice([True, False, None])})
    for n in range(6):
        engine = {"prefix_hits": 50 * n, "prefix_queries": 80 * n}
        cost = {
            "decode": 10.0 * n,
            "prefill": 2.0 * n,
            "recompute": 1.0 * n,
            "caching": 5.0 * n,
            "recomputed_tokens": 7.0 * n,
        }
        run.append(
            "samples",
            {
                "n": n, "at": 2.0 * n, "worker": "w0", "engine": engine, "capacity_tokens": 1000, "cost": cost,
                "reasoning_tokens": 10, "acting_tokens": 20,
            },
        )  # fmt: skip
        run.append("disk", {"at": 2.0 * n, "bytes_now": rng.randrange(10**6), "by_kind": {"folders": 5}})
    for reason in ("first placement", "fits", "fits"):
        run.append(
            "decisions", {"n": 1, "effect": "Restored", "reason": reason, "forced": rng.random() < 0.5, "moved": True}
        )
    run.append("decisions", {"n": 2, "effect": "Paused", "reason": "over capacity"})
    run.close()
    return run


@pytest.mark.parametrize("seed", range(8))
def test_every_figure_follows_from_the_folder(seed: int, tmp_path: Path) -> None:
    run = a_run(tmp_path / "r", seed)
    assert differences(run.folder, summarise(run)) == []


def test_the_check_itself_notices_a_wrong_figure(tmp_path: Path) -> None:
    run = a_run(tmp_path / "r")
    summary = summarise(run)
    summary["hit_rate"] += 0.001
    assert differences(run.folder, summary) != []


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    run = a_run(tmp_path / "r")
    before = summarise(run)
    with (run.folder / "steps.jsonl").open("a") as file:
        file.write('{"agent": "agent-000", "at": 9')
    assert summarise(run) == before


def test_a_run_without_steps_has_a_report_of_zeros(tmp_path: Path) -> None:
    run = a_run(tmp_path / "r", agents=0)
    summary = summarise(run)
    assert (summary["hit_rate"], summary["throughput"]["steps_per_min"]) == (0, 0)
    Console(file=(tmp_path / "out").open("w")).print(run_table(summary))


def test_the_report_names_the_kind_and_that_tasks_are_bundled(tmp_path: Path) -> None:
    run = a_run(tmp_path / "r")
    write_page(run)
    page = (run.folder / "report.html").read_text()
    assert "replay" in page and "bundled" in page and "steps/min" in page


def test_percentiles_are_values_that_occurred() -> None:
    assert [percentile([3, 1, 2], p) for p in (0.01, 0.5, 0.9, 1.0)] == [1, 2, 3, 3]


def test_a_run_of_a_newer_layout_is_refused(tmp_path: Path) -> None:
    run = a_run(tmp_path / "r")
    run.write("manifest.json", {**run.read("manifest.json"), "schema": SCHEMA + 1})
    with pytest.raises(UsageError, match="newer"):
        find_run(str(run.folder))


@pytest.mark.parametrize("name", ["../x", "no-such-run"])
def test_a_run_that_is_not_there_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUNDERCTL_HOME", str(tmp_path))
    with pytest.raises(UsageError):
        find_run(name)


def test_sizes_are_short() -> None:
    assert [size(n) for n in (0, 1000, 1536, 3 * 2**20, 2**41)] == ["0 B", "1000 B", "1.5 KiB", "3.0 MiB", "2.0 TiB"]


@pytest.mark.parametrize(
    ("ended", "complete"), [("done", True), ("duration", True), ("max duration", False), ("interrupted", False)]
)
def test_a_run_that_says_how_it_ended_is_believed(ended: str, complete: bool, tmp_path: Path) -> None:
    run = a_run(tmp_path / "r")
    run.write("manifest.json", {**run.read("manifest.json"), "ended": ended})
    summary = summarise(run)
    assert (summary["complete"], summary["ended"]) == (complete, ended)
    assert (f"did not end by itself ({ended})" in shown(run_table(summary))) is not complete


def test_a_run_that_was_killed_is_not_complete(tmp_path: Path) -> None:
    run = a_run(tmp_path / "r")
    run.write("manifest.json", {**run.read("manifest.json"), "shape": {}})
    assert summarise(run)["complete"] is False


def test_the_command_line_s_limit_of_errors_wins_over_the_profile_s(tmp_path: Path) -> None:
    run = a_run(tmp_path / "r")
    run.write("profile.json", {"profile": {"runs": {"max_error_share": 0.2}}})
    assert summarise(run)["errors"]["limit"] == 0.2
    run.write("manifest.json", {**run.read("manifest.json"), "asked": {"max_error_rate": 0.05}})
    assert summarise(run)["errors"]["limit"] == 0.05


# ------------------------------------------------------------------ runs of traces


def a_trace_run(folder: Path, seed: int = 1, *, duration_s: float | None = None, programs: int | None = 7) -> RunFolder:
    """A stored run of a trace on two emulated workers: agents take several programs, steps end after the window too."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    said: dict[str, Any] = {
        "schema": SCHEMA, "workload": "coding", "kind": "trace", "tasks_are": "of trace coding (digest 1)",
        "profile": "emulated", "policy": "thunder", "engine": "emulated", "agents": 3,
        "time_model": "8 × h100-sxm with glm-4.6-fp8", "environments": {"backend": "local"},
        "trace": {"name": "coding", "digest": "1", "file": f"{folder}/coding.jsonl", "programs": programs,
                  "duration_s": duration_s, "start": "steady", "seed": 0},
    }  # fmt: skip
    if duration_s is not None:
        said["window"] = [0.5, 0.5 + duration_s]
    run.write("manifest.json", said)
    for n in range(programs or 5):
        for step in range(3):
            at = 0.5 + 5 * rng.random()
            run.append(
                "steps",
                {
                    "agent": f"agent-{n % 3:03d}", "program": f"r/p{n:05d}", "step": step + 1, "at": at,
                    "ended": at + 3 * rng.random(), "latency_s": 1 + rng.random(), "held_s": rng.random(),
                    "prompt_tokens": rng.randrange(100, 900), "cached_tokens": rng.randrange(0, 100),
                    "output_tokens": rng.randrange(1, 50), "worker": f"w{n % 2}", "tool_s": rng.random(),
                    "command": "(recorded tool)",
                },
            )  # fmt: skip
        status = rng.choice(["finished", "failed"] if duration_s is None else ["finished", "cut off"])
        run.append("rollouts", {"agent": f"agent-{n % 3:03d}", "program": f"r/p{n:05d}", "status": status})
    for n in range(12):
        run.append(
            "samples",
            {
                "n": n, "at": float(n // 2 + 0.01 * (n % 2)), "worker": f"w{n % 2}", "capacity_tokens": 1000,
                "engine": {"prefix_hits": n, "prefix_queries": 2 * n}, "reasoning_tokens": rng.randrange(500),
                "acting_tokens": rng.randrange(500), "pace": {"steps": n, "busy_s": 0.5 * n, "lag_s": 0.01 * n},
                "cost": {"decode": n, "prefill": n, "recompute": n, "caching": n, "recomputed_tokens": n},
            },
        )  # fmt: skip
    run.append("disk", {"at": 1.0, "bytes_now": 0, "by_kind": {}})
    run.append("decisions", {"n": 1, "effect": "Paused", "reason": "over capacity"})
    run.close()
    return run


@pytest.mark.parametrize("duration_s", [None, 4.0])
@pytest.mark.parametrize("seed", range(4))
def test_every_figure_of_a_trace_run_follows_from_the_folder(
    seed: int, duration_s: float | None, tmp_path: Path
) -> None:
    run = a_trace_run(tmp_path / "r", seed, duration_s=duration_s)
    summary = summarise(run)
    assert differences(run.folder, summary) == []
    assert sum(summary["agents"]["by_status"].values()) == 7, "a program each, not an agent each"


def test_steps_that_ended_after_the_window_do_not_count(tmp_path: Path) -> None:
    run = a_trace_run(tmp_path / "r", duration_s=4.0, programs=None)
    ends = [s["ended"] for s in run.lines("steps")]
    inside = sum(end <= 4.5 for end in ends)
    assert 0 < inside < len(ends)
    summary = summarise(run)
    assert summary["throughput"]["steps"] == inside
    assert (summary["window_s"], summary["throughput"]["steps_per_min"]) == (4.0, pytest.approx(15 * inside))
    assert summary["complete"] is True


def test_imbalance_compares_workers_at_the_same_time(tmp_path: Path) -> None:
    run = a_trace_run(tmp_path / "r")
    loads = {"w0": [(900, 0), (100, 0), (500, 0)], "w1": [(100, 0), (0, 300), (250, 250)]}
    (run.folder / "samples.jsonl").unlink()
    kept = {"engine": {"prefix_hits": 0, "prefix_queries": 0}, "capacity_tokens": 1000}
    cost = dict.fromkeys(("decode", "prefill", "recompute", "caching", "recomputed_tokens"), 0.0)
    for n in range(3):
        for worker, booked in loads.items():
            if (worker, n) == ("w1", 2):
                continue  # it died
            reasoning, acting = booked[n]
            tokens = {"reasoning_tokens": reasoning, "acting_tokens": acting}
            run.append("samples", {"n": n, "at": float(n), "worker": worker, "cost": cost, **kept, **tokens})
    run.close()
    summary = summarise(run)
    assert summary["imbalance"] == {"mean": pytest.approx(0.5), "max": pytest.approx(0.8)}
    assert "host_lag" not in summary


def shown(what: Any) -> str:
    """As a wide terminal shows it."""
    console = Console(file=io.StringIO(), width=250)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_what_cannot_be_judged_or_stored_is_not_in_a_trace_runs_report(tmp_path: Path) -> None:
    run = a_trace_run(tmp_path / "r")
    page = shown(run_table(summarise(run)))
    assert "no text, no tools run" in page and "time model of 8 × h100-sxm with glm-4.6-fp8" in page
    assert "imbalance" in page and "steady start, seed 0" in page
    assert "patches" not in page and "environment disk" not in page


@pytest.mark.parametrize(("lag_s", "too_slow"), [(0.04, False), (0.06, True)])
def test_a_host_that_could_not_keep_pace_is_said_plainly(lag_s: float, too_slow: bool, tmp_path: Path) -> None:
    run = a_trace_run(tmp_path / "r")
    summary = summarise(run)
    summary["host_lag"] = lag_s
    page = shown(run_table(summary))
    assert ("too slow" in page, "kept pace" in page) == (too_slow, not too_slow)


def test_records_in_memory_are_summarised_like_a_folder(tmp_path: Path) -> None:
    run = a_trace_run(tmp_path / "r")

    class InMemory:
        id = run.id

        def read(self, name: str) -> Any:
            return run.read(name)

        def lines(self, name: str) -> list[dict[str, Any]]:
            return list(run.lines(name))

    assert summarise(InMemory()) == summarise(run)
