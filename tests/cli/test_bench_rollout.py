"""``bench rollouts``: what it prints, writes and refuses. Small settings; its figures are nobody's promise here."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thunderctl.cli.bench import app
from thunderctl.cli.bench_rollout import Trial, overrides_of, simulate_trial
from thunderctl.errors import UsageError
from thunderctl.profile_files import load_profile
from thunderctl.report.rollout_bench import apart
from thunderctl.sim.worker import SimWorker
from thunderctl.traces.groups import grouped
from thunderctl.traces.load import find_trace, load_trace
from thunderctl.workers.inside.thunderctl_timing import Measured

runner = CliRunner()
SMALL = ["--agents", "16", "--samples-per-task", "4", "--duration", "30", "--groups", "2"]
WORKER = SimWorker(Measured(fixed_s=0.02, token_s=0.00005, pair_s=0.0, context_s=0.0), 120_000)
TRACE = grouped(load_trace(find_trace("coding")), samples=4)


def test_every_arm_is_measured_under_every_load_in_both_ways(tmp_path: Path) -> None:
    options = [*SMALL, "--arms", "baseline,paper,thunder", "--out", str(tmp_path)]
    done = runner.invoke(app, ["rollouts", *options], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    said = json.loads((tmp_path / "rollouts.json").read_text())
    assert said["kind"] == "simulated"
    arms = ("baseline", "paper", "thunder")
    assert [(row["measured"], row["load"], row["arm"]) for row in said["rows"]] == [
        (measured, load, arm) for measured in ("stretch", "batch") for load in ("light", "heavy") for arm in arms
    ]
    for row in said["rows"]:
        if row["measured"] == "batch":
            assert (row["complete"], row["open"]) == (2, 0)
        if row["arm"] == "baseline":
            assert row["ratio"] == 1
        assert math.isfinite(row["steps_per_min"])
    assert all(line.rstrip() == line or len(line) <= 80 for line in done.stdout.splitlines())
    page = (tmp_path / "report.html").read_text()
    assert "Imbalance of the workers, heavy load (simulated)" in page
    assert "1.79×" in done.stdout and "3.92×" in done.stdout


def test_a_batch_ends_with_its_last_sample_and_all_its_groups_are_complete() -> None:
    batch = simulate_trial(Trial("light", "thunder", 0, TRACE, 12, None, 12, (WORKER,)))
    assert (batch.measured, batch.blocking.complete, batch.blocking.open, batch.blocking.samples) == ("batch", 3, 0, 12)
    assert batch.blocking.so_far_mean_s == batch.blocking.mean_s <= batch.blocking.worst_s <= batch.seconds


def test_a_trial_gives_the_same_outcome_each_time() -> None:
    trial = Trial("light", "thunder", 3, TRACE, 16, 60.0, None, (WORKER, WORKER))
    assert simulate_trial(trial) == simulate_trial(trial)


def test_imbalance_is_the_fullest_worker_less_the_emptiest() -> None:
    memory = {"w0": [(0.0, 0.5), (2.0, 0.75)], "w1": [(0.0, 0.25), (2.0, 1.0), (4.0, 1.0)]}
    assert apart(memory) == [(0.0, 0.25), (2.0, 0.25)]


def test_an_arm_becomes_the_profiles_policy_with_its_options() -> None:
    profile = load_profile("emulated-2x8h100-glm46", overrides_of("baseline:route=least-loaded")).profile
    assert (profile.scheduler.policy, profile.scheduler.options) == ("baseline", {"route": "least-loaded"})
    profile = load_profile("emulated-2x8h100-glm46", overrides_of("thunder:stragglers=0")).profile
    assert profile.scheduler.options == {"stragglers": 0}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--loads", "huge"], "there is no load 'huge'"),
        (["--arms", "thundr"], "did you mean 'thunder'"),
        (["--emulated", "--profile", "h100x8", "--duration", "1"], "real engine"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = runner.invoke(app, ["rollouts", *arguments, "--out", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert said in done.exception.message + (done.exception.hint or "")
