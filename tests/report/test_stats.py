"""Reports say what the run's folder says, and comparisons refuse what cannot be compared."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.report.recompute import differences
from thunderctl.errors import UsageError
from thunderctl.report.compare import compare, compare_table
from thunderctl.report.stats import percentile, summarise
from thunderctl.report.tables import run_table, size, write_page
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
            "samples", {"n": n, "at": 2.0 * n, "worker": "w0", "engine": engine, "capacity_tokens": 1000, "cost": cost}
        )
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
    write_page(run, run_table(summarise(run)))
    page = (run.folder / "report.html").read_text()
    assert "replay" in page and "bundled" in page and "steps/min" in page


def test_percentiles_are_values_that_occurred() -> None:
    assert [percentile([3, 1, 2], p) for p in (0.01, 0.5, 0.9, 1.0)] == [1, 2, 3, 3]


def pair(tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return summarise(a_run(tmp_path / "a", 1)), summarise(a_run(tmp_path / "b", 1))


def test_a_comparison_gives_the_ratio_to_the_first_arm_with_its_spread(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    b["throughput"]["steps_per_min"] = 2 * a["throughput"]["steps_per_min"]
    c = json.loads(json.dumps(a))
    c["throughput"]["steps_per_min"] = 4 * a["throughput"]["steps_per_min"]
    result = compare({"baseline": [a, a], "thunder": [b, c]})
    row = result["figures"][0]["arms"]["thunder"]["ratio"]
    assert (row["of_means"], row["min"], row["max"]) == (pytest.approx(3), pytest.approx(2), pytest.approx(4))
    Console(file=(tmp_path / "out").open("w")).print(compare_table(result))


@pytest.mark.parametrize(("section", "key"), [("throughput", "steps"), ("tokens", "output"), ("agents", "asked")])
def test_arms_that_did_different_work_are_refused(section: str, key: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    b[section][key] += 1
    with pytest.raises(UsageError, match=f"different work: {section}.{key}"):
        compare({"baseline": [a], "thunder": [b]})


def test_a_run_that_was_cut_short_is_not_compared(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    b["complete"] = False
    with pytest.raises(UsageError, match="did not end"):
        compare({"baseline": [a], "thunder": [b]})


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
